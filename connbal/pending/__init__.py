"""Changes that go back by themselves unless they are confirmed in time: what they were before, and until when.

``record`` has the values and their words, and is pure; ``store`` keeps them beside the configuration, so that they
outlive the run directory and a power cut; ``inforce`` remembers what was applied last; ``waiter`` starts the process
that takes back where nobody else does. Applying what came back is the ordinary run's work (``connbal.cli.confirming``).
"""

"""Fuzzing: whatever comes from outside, as bytes that a fuzzer makes, and oracles that know what must not happen.

Each module of ``targets/`` is one target: ``check(data)`` raises where connbal does what it must not, be it an
exception that nobody declared, a round trip that loses something, or a value that became something else.
``seeds()`` gives inputs to begin with, beside the files in ``corpus/TARGET/``. ``python -m tests.fuzz --help`` runs
them.
"""

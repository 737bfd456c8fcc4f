"""connbal: connection balancing over several Internet sources."""

__version__ = "0.1.0"

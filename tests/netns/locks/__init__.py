"""Locks of connbal and of its files, and another user of the machine who keeps whatever it can."""

"""Taking over from mwan3, and cleaning up after it, on a real kernel."""

"""What programs read, on the real kernel and beside a real daemon."""

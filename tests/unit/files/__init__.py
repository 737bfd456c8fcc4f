"""What lands on the router outside Python: scripts, run by busybox's shell with stand-ins around them."""

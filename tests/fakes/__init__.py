"""Stand-ins for the effects, and short ways to say what a test is about."""

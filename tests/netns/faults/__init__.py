"""Faults at every point: each call that has an effect on the machine, or looks at it, fails, hangs, or is the last."""

"""Health: probes, the state machine that judges them, and the process that keeps the kernel in step with it."""

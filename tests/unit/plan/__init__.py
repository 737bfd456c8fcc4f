"""Of the plan: pure functions from configuration and facts to what should be in the kernel."""

"""Programs that run inside the lab's namespaces. Standard library only; each starts in about 40 ms."""

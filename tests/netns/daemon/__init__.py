"""The daemon in a lab's router: real probes, real cuts, real kernels."""

"""Benchmarks in the lab."""

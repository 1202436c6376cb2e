"""Benchmarks: `mirage bench`."""

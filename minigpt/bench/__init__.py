"""Benchmarks: ratios of things run in turn on one machine, never single times."""

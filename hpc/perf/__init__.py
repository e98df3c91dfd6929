"""Benchmarks of speed against other software."""

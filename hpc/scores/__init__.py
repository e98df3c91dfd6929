"""Scores as sums that merge exactly: accumulate per event, merge, then compute."""

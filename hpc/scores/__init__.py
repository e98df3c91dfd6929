"""Scores from mergeable sums: accumulate per event, merge, then compute."""

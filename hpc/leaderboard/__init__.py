"""Leaderboards of runs scored on the same data."""

"""Rank runs that were scored on the same data."""

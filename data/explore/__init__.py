"""Measure and draw an archive."""

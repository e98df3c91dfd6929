"""Measure an archive and draw its figures."""

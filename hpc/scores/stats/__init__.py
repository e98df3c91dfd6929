"""Confidence intervals and significance tests of scores."""

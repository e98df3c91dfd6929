"""Figures of a suite, drawn from its score records and kept cases."""

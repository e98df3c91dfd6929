"""Suites of cells, their comparison tables, figures and report."""

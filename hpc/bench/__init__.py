"""Suites of cells → comparison tables with honest intervals."""

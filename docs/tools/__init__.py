"""Builds the documentation: reference pages from the code, result tables from JSON."""

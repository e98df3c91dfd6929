"""Readers of radar formats; each returns the sweeps of a file as they are stored, with physical values."""

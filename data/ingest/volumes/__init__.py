"""Radar volumes: read, censored, gridded, cut into events."""

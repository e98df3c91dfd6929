"""Gridded sequences: read, converted, tiled, cut into events."""

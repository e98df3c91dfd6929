"""Shards: WebDataset tars of whole events with a manifest; written, checked, staged and taken in."""

"""Checks of archives and shards."""

"""Evaluation of trained runs on shards."""

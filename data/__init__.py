"""Radar data from file to tensor: archives, shards, loading, batches, scaling, synthetic storms."""

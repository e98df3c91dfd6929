"""Radar data, from files to tensors: archives, shards, loading, batches, scaling, synthetic storms."""

"""From shards to batches: which windows there are, in which order, and how their bytes get into tensors."""

"""What the radar saw, from file to tensor: archives, shards, readers, batches, scaling, synthetic storms."""

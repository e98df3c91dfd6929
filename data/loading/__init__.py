"""Windows of shards in a global order: readers, sampler, augmentation."""

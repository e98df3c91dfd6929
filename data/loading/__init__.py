"""Loading of windows from shards: readers, global sample order, sampler, augmentation."""

"""Write, verify, fetch and stage WebDataset shards."""

"""Score trained runs on shards."""

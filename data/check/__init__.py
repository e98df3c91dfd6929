"""Is an archive, or a folder of shards, what it should be?"""

"""The run folder: configuration, checkpoints, provenance, and models built from them."""

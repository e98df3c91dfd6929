"""Ways to step a model on all ranks: DeepSpeed, DDP."""

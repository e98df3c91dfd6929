"""Training backends: DeepSpeed and DDP."""

"""Search architectures and hyperparameters."""

"""The training loop, its engine, loader, logs and checks."""

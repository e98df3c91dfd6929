"""Training: loop, engine, data loader, logs, checkpoints and estimates."""

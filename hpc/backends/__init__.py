"""The ways to step a model over all processes."""

"""Training, evaluation and benchmarking, on one machine or many; see docs/extend/architecture.md."""

"""A real two-node Slurm on one machine, for tests."""

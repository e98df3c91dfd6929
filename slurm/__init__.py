"""Turn a verb into a Slurm job. Imports nothing of the other folders, and no torch."""

"""Turn a verb into a Slurm job. Imports neither the other packages nor torch."""

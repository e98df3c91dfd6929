"""From a verb of polarcast to a job of Slurm. Stands alone: no torch, nothing of the other folders."""

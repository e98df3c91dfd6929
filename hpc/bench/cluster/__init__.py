"""A suite as the jobs of a cluster: plan, work of each job, attempts, and states of its cells."""

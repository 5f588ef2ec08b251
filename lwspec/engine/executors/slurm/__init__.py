"""SLURM as an executor: submitit submits, run folders and the cluster's own words say what is."""

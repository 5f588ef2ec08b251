"""What starts jobs: on this machine, or on a SLURM cluster."""

"""What a job computes: frozen models, arms, one trainer and one evaluator.

Knows a run folder, a resolved job and a device; nothing of SLURM or SQL.
"""

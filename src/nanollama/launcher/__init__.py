"""Many runs from one description: grids, a local pool of processes, Slurm, and what became of them all."""

"""What stands around the training loop: run folder, checkpoints, log, timing, preemption."""

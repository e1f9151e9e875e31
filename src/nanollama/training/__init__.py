"""Training: the loop, one step of it, losses, optimizers, interventions."""

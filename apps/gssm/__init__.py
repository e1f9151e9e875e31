"""Sequences drawn from small graphs of hidden variables, whose entropy is known exactly."""

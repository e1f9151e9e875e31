"""Batches, and streams that make them as pure functions of (seed, step, rank)."""

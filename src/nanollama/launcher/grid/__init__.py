"""Grids: one config that describes many runs, what became of them, and what had to come out."""

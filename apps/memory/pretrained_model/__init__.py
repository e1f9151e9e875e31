"""Pretrained models that learn facts, by heart or through the database, and what they forget meanwhile."""

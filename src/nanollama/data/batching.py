"""How the examples of a batch are put side by side, as a config says it."""

from typing import Literal

Batching = Literal["trimmed", "bucketed", "packed"]
"""Padded to the longest; that among examples of like length; several one after another in each row."""

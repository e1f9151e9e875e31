"""Seeds with a name: one number for a run, an independent one for each thing in it that is random."""

from __future__ import annotations

import hashlib


def named_seed(seed: int, name: str) -> int:
    """A seed of 63 bits for the purpose `name`, the same on every machine, in every process and release.

    Purposes never share a random stream, so a draw added to one (one more evaluation) leaves the others
    (the data order, the initial weights) as they were. Join parts of a name with a slash: ``"data/epoch/3"``.

    Args:
        seed: the seed of the run, any integer.
        name: what the randomness is for.

    Returns:
        the first 63 bits of SHA-256 of ``"<seed>/<name>"``, which torch and numpy generators both accept.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

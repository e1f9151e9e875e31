"""What a campaign is: trials by number, each drawn from a seed, so that any of them can be done again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Campaign(Protocol):
    """One kind of fault. Made once, in a folder beside those of others, where it finds out what is right."""

    def __init__(self, folder: Path) -> None: ...

    def trial(self, rng: random.Random) -> str | None:
        """Do something to the program; None where all is as it must be, else what is not."""
        ...


@dataclass(frozen=True)
class Failure:
    """A trial that did not end as it must: ``python -m tests.faults NAME --seed SEED --only NUMBER``."""

    name: str
    number: int
    what: str


def rng_of(seed: int, name: str, number: int) -> random.Random:
    """Randomness of one trial."""
    return random.Random(f"{seed}/{name}/{number}")


def trials(
    name: str, campaign: Campaign, seed: int, first: int, seconds: float, n_most: int
) -> Iterator[Failure | None]:
    """Trial after trial, until the time is over or there were so many."""
    end = time.monotonic() + seconds
    for number in range(first, first + n_most):
        if time.monotonic() > end:
            return
        found = campaign.trial(rng_of(seed, name, number))
        yield None if found is None else Failure(name, number, found)

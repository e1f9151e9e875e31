"""SIGKILL at any moment to one of two processes of a run, or both: started again, it ends as a calm one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.faults.children import KEYS, Calm, Child, Ended, arguments

N_RANKS = 2
KILLS = ((0,), (1,), (0, 1))
SECONDS_TO_LEAVE = 10.0
CODES = (0, 1, 75, -signal.SIGTERM, -signal.SIGKILL)
"""How a process may end when another died: torchrun sends it SIGTERM, and SIGKILL if that does not help."""


class Ranks:
    """Two processes, some of which die, up to twice a run."""

    def __init__(self, folder: Path) -> None:
        self.calm = Calm(folder, train_together)

    def trial(self, rng: random.Random) -> str | None:
        """A run that loses a process, or both, then is left alone."""
        study = rng.choice(sorted(KEYS))
        seconds, folder = self.calm.seconds(study), self.calm.folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        story = [study]
        for _ in range(rng.randint(1, 2)):
            after, killed = rng.uniform(0, seconds * 1.1), rng.choice(KILLS)
            story.append(f"{killed} killed after {after:.3f} s")
            for rank, ended in enumerate(train_together(study, folder, dict.fromkeys(killed, after))):
                if ended.code not in CODES or "Traceback" in ended.said:
                    return f"{', '.join(story)}: {rank} ended with {ended.code}: {ended.said[-1500:]}"
        for rank, ended in enumerate(train_together(study, folder)):
            if ended.code != 0:
                return (
                    f"{', '.join(story)}, started again: {rank} ended with {ended.code}: {ended.said[-1500:]}"
                )
        found = self.calm.compare(study, folder)
        return None if found is None else f"{', '.join(story)}: {found}"


def train_together(study: str, folder: Path, kill_after: Mapping[int, float] | None = None) -> list[Ended]:
    """How each process of a run ended, when some got SIGKILL after so many seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv, here = arguments(study, folder), folder.parent
    children = [Child(f"apps.{study}.train", argv, here, be_rank(rank, port)) for rank in range(N_RANKS)]
    ended = {rank: children[rank].wait(after) for rank, after in (kill_after or {}).items()}
    for rank, child in enumerate(children):
        if rank not in ended:
            ended[rank] = child.stop(SECONDS_TO_LEAVE) if kill_after else child.wait()
    return [ended[rank] for rank in range(N_RANKS)]


def be_rank(rank: int, port: int) -> Callable[[], None]:
    """What a child calls first: to be one of the processes that torchrun would start."""

    def begin() -> None:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(N_RANKS),
            "LOCAL_WORLD_SIZE": str(N_RANKS),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }

    return begin

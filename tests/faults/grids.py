"""SIGKILL to a process of a grid, or to all, at any moment: started again, the grid ends as a calm one."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.children import COMMON, KEYS, ROOT, Calm, Ended, run
from tests.toy_training import same_end

N_SEEDS = 3
N_STARTS = 4
SECONDS_TO_LEAVE = 60.0
VICTIMS = ("driver", "starter", "run", "all")


class Grids:
    """Grids of three seeds, two at a time."""

    def __init__(self, folder: Path) -> None:
        self.calm = Calm(folder, lambda study, folder: [start(study, folder)])

    def trial(self, rng: random.Random) -> str | None:
        """A grid that loses a process, some times, then is left alone."""
        study = rng.choice(sorted(KEYS))
        seconds, folder = self.calm.seconds(study), self.calm.folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        story = []
        for _ in range(rng.randint(1, 2)):
            victim, after = rng.choice(VICTIMS), rng.uniform(0, seconds * 1.1)
            story.append(f"{victim} killed after {after:.3f} s")
            killer = threading.Timer(after, kill, (victim, os.getpid(), rng.random()))
            killer.start()
            ended = start(study, folder)
            killer.cancel()
            killer.join()
            if "Traceback" in ended.said and victim != "starter":
                return f"{study}, {', '.join(story)}: exit code {ended.code}: {ended.said[-1500:]}"
        found = self.finish(study, folder)
        return None if found is None else f"{', '.join(story)}: {found}"

    def finish(self, study: str, folder: Path) -> str | None:
        """Start the grid until it has ended; None where its runs then are those of a calm one."""
        for _ in range(N_STARTS):
            ended = start(study, folder)
            if ended.code == 0:
                return self.compare(study, folder)
            if "Traceback" in ended.said:
                break
            wait_until_alone(self.calm.folder)
        return f"{study}, started again: exit code {ended.code}: {ended.said[-1500:]}"

    def compare(self, study: str, folder: Path) -> str | None:
        """None where each run of a grid ended as that of the calm grid of its study."""
        calm = self.calm.run(study)
        for seed in sorted(path.name for path in calm.iterdir() if (path / "result.json").exists()):
            if not same_end(calm / seed, folder / seed):
                return f"{study}/{seed}: other weights or rows than in a calm grid"
        left = names(folder) - names(calm)
        return f"{study}: left over: {sorted(left)}" if left else None


def arguments(study: str, folder: Path) -> list[str]:
    """What is typed behind ``nanollama`` for the small grid of a study in ``folder``."""
    config = ROOT / "apps" / study / "config" / "debug.yaml"
    grid = (f"grid.seeds={N_SEEDS}", "local.n_jobs=2", "local.n_threads=1")
    return ["grid", "run", str(config), f"run_dir={folder}", *COMMON, *KEYS[study], *grid]


def start(study: str, folder: Path) -> Ended:
    """The small grid of a study."""
    return run("nanollama.cli.command", arguments(study, folder), folder.parent)


def names(folder: Path) -> set[str]:
    """Paths of all files below a folder, from there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def descendants(pid: int) -> list[int]:
    """Children of a process, and theirs, parents first."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(int(child) for child in task.read_text().split())
    return found[1:]


def kill(victim: str, pid: int, which: float) -> None:
    """SIGKILL to a process below ``pid``, if it is there: the driver is its child, and so on down."""
    driver, *others = [*descendants(pid)] or [None]
    if driver is None:
        return
    starter, *runs = others or [None]
    targets = {
        "driver": [driver],
        "starter": [starter],
        "run": runs[int(which * len(runs)) :][:1],
        "all": [*runs, starter, driver],
    }[victim]
    for target in filter(None, targets):
        with suppress(ProcessLookupError):
            os.kill(target, 9)


def wait_until_alone(folder: Path) -> None:
    """Until no run works in a folder whose grid has lost its driver."""
    end = time.monotonic() + SECONDS_TO_LEAVE
    while time.monotonic() < end and works_in(folder):
        time.sleep(0.05)


def works_in(folder: Path) -> bool:
    """Is there a starter of runs, or a run of one, with this working directory?"""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                b"launcher.local.forkserver" in (path / "cmdline").read_bytes()
                and (path / "cwd").resolve() == folder.resolve()
            ):
                return True
    return False

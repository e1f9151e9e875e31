"""A file of a run folder is damaged: the next command says so, or does what it does without the damage."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.faults.children import KEYS, arguments, calm_training, run
from tests.toy_training import newest, same_end

N_FIRST = 1024
"""Bits are flipped among so many bytes at the beginning of a file."""


class Files:
    """One byte or bit of one file, or its end."""

    def __init__(self, folder: Path) -> None:
        self.calm = calm_training(folder.parent)

    def trial(self, rng: random.Random) -> str | None:
        """Damage a run, then go on with it, examine it, or look at it."""
        study = rng.choice(sorted(KEYS))
        calm, folder = self.calm.run(study), self.calm.folder / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(calm, folder)
        unfinished = rng.random() < 0.5
        if unfinished:
            (folder / "result.json").unlink()
        path = rng.choice(
            sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        )
        how = damage(path, rng)
        where = f"{study}, {'unfinished' if unfinished else 'finished'}, {path.relative_to(folder)} {how}"
        module, argv = rng.choice(
            [
                (f"apps.{study}.train", arguments(study, folder)),
                ("nanollama.cli.command", ["report", str(folder), "--output", str(folder / "page.html")]),
            ]
        )
        ended = run(module, argv, self.calm.folder)
        if ended.code not in (0, 2) or "Traceback" in ended.said:
            return f"{where}, {module}: exit code {ended.code}: {ended.said[-700:]}"
        if module.startswith("apps") and ended.code == 0 and unfinished and not same_weights(calm, folder):
            return f"{where}: goes on in silence to other weights"
        return None


def damage(path: Path, rng: random.Random) -> str:
    """Cut a file short, or flip a bit near its beginning; says what was done."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        n_left = rng.randrange(len(content))
        path.write_bytes(content[:n_left])
        return f"cut to {n_left} of {len(content)} bytes"
    place, bit = rng.randrange(min(len(content), N_FIRST)), rng.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"with bit {bit} of byte {place} flipped"


def same_weights(one: Path, other: Path) -> bool:
    """Do two runs end with the same bits of weights?"""
    ends = [newest(folder) / "model.safetensors" for folder in (one, other)]
    return same_end(one, other) or ends[0].read_bytes() == ends[1].read_bytes()

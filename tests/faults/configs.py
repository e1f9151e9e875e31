"""Configs that somebody mistyped: each is read, or refused with exit code 2, without a traceback."""

from __future__ import annotations

import contextlib
import importlib
import io
import random
from pathlib import Path

from tests.faults.children import ROOT

VALUES = (
    *(
        "",
        "null",
        "-1",
        "0",
        "1e400",
        ".nan",
        "'",
        "[]",
        "{}",
        "[[]]",
        "yes",
        "1_0",
        "0x1f",
        "~",
        "3.5",
        "true",
    ),
    *("!!python/object:os.system x", "&a [*a]", "*a", "- 1", "{a: 1}", "ä", "\x00", "\ufeff", "\u202e"),
    *("999999999999999999999", "1e-400", "../.."),
)
MODULES = {"eval": "eval", "data": "data", "entropy": "entropy", "difficulty": "difficulty", "show": "show"}


class Configs:
    """Shipped ones with one to three mistakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = sorted(path for path in (ROOT / "apps").glob("*/config/*.yaml"))

    def trial(self, rng: random.Random) -> str | None:
        """Print what a mistaken config says."""
        path = rng.choice(self.paths)
        text = path.read_text()
        for _ in range(rng.randint(1, 3)):
            text = mistaken(text, rng)
        copy = path.with_name(f"mistaken_{id(self)}.yaml")
        try:
            copy.write_text(text, errors="surrogatepass")
            found = show(path.parts[-3], path.stem, copy)
        finally:
            copy.unlink()
        return None if found is None else f"{path.relative_to(ROOT)} as\n{text}\n{found}"


def mistaken(text: str, rng: random.Random) -> str:
    """A text with one mistake."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    key, colon, value = lines[at].partition(":")
    kind = rng.randrange(8)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 2 and colon:
        lines[at] = f"{key}: {rng.choice(VALUES)}"
    elif kind == 3:
        lines[at] = " " * rng.randint(1, 3) + lines[at]
    elif kind == 4 and key.strip():
        place = rng.randrange(len(key))
        lines[at] = key[:place] + rng.choice("abz_.:-#{}\t ") + key[place + 1 :] + colon + value
    elif kind == 5:
        lines[at] = lines[at].lstrip()
    elif kind == 6 and value.strip():
        place = rng.randrange(len(value))
        lines[at] = key + colon + value[:place] + rng.choice("09a-.,[]{}'\"") + value[place:]
    else:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines) + "\n"


def show(study: str, stem: str, path: Path) -> str | None:
    """``--dry-run`` of the verb that a config is for; None where it is answered as it must be."""
    verb = MODULES.get(stem, "train")
    argv = [str(path), "--dry-run"]
    module = f"apps.{study}.{verb}"
    if "\ngrid:" in path.read_text(errors="surrogatepass"):
        module = f"apps.{study}.local_grid"
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = importlib.import_module(module).main(argv)
    except BaseException as error:
        return f"{module}: {type(error).__name__}: {error}"
    said = err.getvalue()
    if code not in (0, 2) or "Traceback" in said or (code == 2 and not said.strip()):
        return f"{module}: exit code {code}: {said[-1500:]}"
    return None

"""The command ``nanollama watch``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from nanollama.config import RUNS
from nanollama.entrypoint import Parser
from nanollama.errors import UserError
from nanollama.launcher.plan import Plan, read_grid
from nanollama.watch.server import WatchServer
from nanollama.watch.watched import Watched
from nanollama.wording import count, runs_there, suggest_folder

SECONDS_TO_OPEN = 3.0
_PROGRAM = "nanollama watch"


def run(argv: Sequence[str]) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: wrong arguments, nothing to follow, or a port that is taken.
    """
    arguments = _parse(argv)
    watched = watch(arguments.what)
    with WatchServer(watched, arguments.port) as server:
        Thread(target=_read, args=(watched,), daemon=True).start()
        server.serve(f"following {count(len(watched.runs), 'run')}")


def _read(watched: Watched) -> None:
    """Read everything, once the page shows something, or nobody has opened it for a while."""
    watched.is_shown.wait(SECONDS_TO_OPEN)
    watched.read_all()


def watch(what: Sequence[str]) -> Watched:
    """What arguments name: folders, configs of grids, and keys for these.

    Raises:
        UserError: a path is neither, keys are given without a config, or there is nothing to follow.
    """
    keys = [item for item in what if "=" in item and not Path(item).exists()]
    paths = [item for item in what if item not in keys] or ([] if keys else [str(RUNS)])
    folders: list[Path] = []
    plans: list[Plan] = []
    for item in paths:
        path = Path(item)
        if path.is_dir():
            folders.append(path)
        elif path.suffix in (".yaml", ".yml") and path.is_file():
            plans.append(read_grid([item, *keys]))
        else:
            problem = "is a file" if path.exists() else "no such folder"
            there = f", such as {', '.join(runs)}" if (runs := runs_there()) else ""
            expected = f"; expected the folder of a run or of several{there}, or the config of a grid."
            raise UserError(f"{item}: {problem}{suggest_folder(path) or expected}")
    if keys and not plans:
        hint = (
            suggest_folder(Path(keys[0])) or "; a key is of the config of a grid, which has to be named too."
        )
        raise UserError(f"{keys[0]}: no such folder{hint}")
    return Watched(folders, plans)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog=_PROGRAM,
        description="Serve a page on this machine alone that follows runs and grids while they go.",
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="RUN|GRID|FOLDER",
        help=f"folders of runs, folders that hold some, configs of grids with key=value (default: {RUNS})",
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="of the page (default: any that is free)"
    )
    return parser.parse_args(argv)

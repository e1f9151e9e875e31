"""``nanollama runs delete``: what runs have left is removed, and nothing else."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nanollama.cli.runs import RunEntry, megabytes
from nanollama.errors import EXIT_FAILED, EXIT_OK, UserError
from nanollama.launcher.attempts import LAUNCH, LAUNCH_CONFIG, OUTPUT
from nanollama.monitor import checkpoint, successor
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.monitor.files import check_plain, remove_whole
from nanollama.monitor.run_folder import LOCK, is_held
from nanollama.monitor.successor import CONFIG, MOVING, ORDER, REPLACED, WRITTEN
from nanollama.report import OUTPUT as REPORT
from nanollama.report.attention import OUTPUT as EXPLORER
from nanollama.watch.watched import is_run
from nanollama.wording import count, printable

FILES = (*WRITTEN, LAUNCH, LAUNCH_CONFIG, OUTPUT, REPORT, EXPLORER, ORDER, LOCK)
FOLDERS = (checkpoint.FOLDER, *successor.FOLDERS, MOVING, REPLACED)
"""What runs, and who starts and examines them, leave in a run folder."""


def delete_runs(folders: Sequence[Path], is_sure: bool) -> int:
    """Remove what runs have left, after a question that names the folders; files of others stay.

    A run that has begun to work by then stays as well, which is told; the status is then 1.

    Args:
        folders: of runs, each named.
        is_sure: ask nothing.

    Raises:
        UserError: a folder is not a run, or somebody is at work in it, or its checkpoints are those of
            another run, or there is nobody to ask.
    """
    for folder in folders:
        _check(folder)
    named: dict[Path, Path] = {}
    for folder in folders:
        named.setdefault(folder.resolve(), folder)
    # Whole paths: the working directory may be among what goes, and no system removes a "."
    places = [path.absolute() if path.is_symlink() else path.resolve() for path in named.values()]
    runs = [RunEntry(printable(str(path)), place) for path, place in zip(named.values(), places, strict=True)]
    for run in runs:
        goes = ", ".join(_told(run.folder / name) for name in _folders(run.folder))
        size = f"{megabytes(run.n_bytes)} MB"
        print(f"{run.name}  {run.state.kind}, {size}" + (f", with {goes}" if goes else ""))
    if not is_sure and not _ask(_question(runs)):
        print("Nothing was removed.")
        return EXIT_OK
    n_at_work = 0
    for run in runs:
        with _without_beginners(run.folder) as is_free:
            left = remove_run(run.folder) if is_free else []
        n_at_work += not is_free
        said = f"removed {run.name}" if is_free else f"left {run.name}: a run is at work in it by now"
        others = printable(", ".join(left))
        print(said + (f"; not of a run, and left there: {others}" if left else ""))
    return EXIT_FAILED if n_at_work else EXIT_OK


def _check(folder: Path) -> None:
    """Refuse what is not to be removed."""
    for name in (CONFIG, LAUNCH_CONFIG, LOCK):
        check_plain(folder / name)
    if not successor.holds_run(folder, (CONFIG, LAUNCH_CONFIG)):
        why = "each run that is to go has to be named"
        why = f"it holds a {CONFIG} or {LAUNCH_CONFIG} that no run wrote" if is_run(folder) else why
        raise UserError(f"{folder} is not the folder of a run: {why}.")
    if is_held(folder):
        raise UserError(f"A run is at work in {folder}: stop it first.")
    successor.check_own_checkpoints(folder)


def _told(path: Path) -> str:
    """A folder that goes, as who is asked reads it; of links to others only checkpoints go too."""
    name = f"{path.name}/"
    if not path.is_symlink():
        return name
    return f"{name} in {_target(path)}" if path.name == checkpoint.FOLDER else f"the link {path.name}"


def _target(path: Path) -> str:
    return printable(os.path.realpath(path))


def _question(runs: Sequence[RunEntry]) -> str:
    linked = [path for run in runs if (path := run.folder / checkpoint.FOLDER).is_symlink() and path.is_dir()]
    places = f", and the checkpoints in {', '.join(map(_target, linked))}," if linked else ""
    return f"Remove {count(len(runs), 'run')}{places} for ever?"


@contextmanager
def _without_beginners(folder: Path) -> Iterator[bool]:
    """Let no run begin in a folder while it is removed; False where one is at work in it.

    Who only asks (`is_held`) is not in the way. Where nothing can be locked, nobody knows, and it is free.
    """
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(open(folder / LOCK, "ab"))
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True


def remove_run(folder: Path) -> list[str]:
    """Remove what a run has left, and its folder if nothing else is in it; names of what else is."""
    checkpoints = Checkpointer(folder / checkpoint.FOLDER)
    checkpoints.clean()
    for path in [*map(checkpoints.path, checkpoints.steps()), checkpoints.folder / REPLACED]:
        remove_whole(path)
    for name in _folders(folder):
        path = folder / name
        if path.is_symlink() or path != checkpoints.folder:
            remove_whole(path)
        elif not os.listdir(path):
            path.rmdir()
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    left = sorted(os.listdir(folder))
    if not left and not folder.is_symlink():
        folder.rmdir()
    return left


def _folders(folder: Path) -> list[str]:
    """Those below the folder of a run that go with it."""
    others = set(successor.FOLDERS).difference(successor.own_folders(folder))
    return [name for name in FOLDERS if name not in others and (folder / name).is_dir()]


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError(f"{question} There is nobody to ask: say --yes.")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

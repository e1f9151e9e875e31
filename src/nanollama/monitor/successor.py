"""How a new run takes the place of an old one: nothing is removed before its successor has begun.

A run that starts anew moves what the old one wrote aside, within the folder, and removes it once it has a
row, a checkpoint or a result of its own. If it ends before, the old one is put back: at once, or, where the
new one was killed, by the next that opens the folder. A run that waits to start anew, in a queue or a pool,
has an order in its folder and leaves everything else as it is. Loads nothing that takes time.

- ``.anew``: the order; whoever starts the run passes on ``overwrite=true`` while it is there.
- ``.moving/``: what is on its way aside or back. All of it belongs to the folder.
- ``.replaced/``: the old run, while its successor has not begun; its checkpoints are in
  ``checkpoints/.replaced``, since ``checkpoints`` may be a link to another disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanollama.errors import UserError
from nanollama.monitor import checkpoint, track
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.monitor.files import read_json, read_text, sync_folder
from nanollama.monitor.remedies import OTHER_FOLDER

CONFIG, ENVIRONMENT, METRICS, EVALS = "config.yaml", "environment.json", "metrics.jsonl", "evals.jsonl"
RESULT, LOG, DIALOGS, SAMPLES = "result.json", "log.txt", "dialogs.jsonl", "samples.jsonl"
EXAMINATIONS = "examinations.json"
"""Which checkpoints have been examined, see `nanollama.launcher.slurm.examinations`."""
TOKENIZER = "tokenizer.json"
"""Of a run that was imported, see `nanollama.exchange`."""
WRITTEN = (RESULT, METRICS, EVALS, DIALOGS, SAMPLES, LOG, EXAMINATIONS, TOKENIZER, ENVIRONMENT, CONFIG)
"""The files of a run; beside them it has its checkpoints and `FOLDERS`."""
TOKENIZER_FOLDER, MODEL = "tokenizer", "model"
"""Of a run of a pretrained model: its tokenizer, and what transformers reads of what was learned."""
EVALUATIONS = "evaluations"
"""Folder of what examinations of its checkpoints write."""
TRAINER = "trainer"
"""Folder of what the Trainer of transformers needs to go on, in a run that was finetuned by it."""
FOLDERS = (track.FOLDER, TOKENIZER_FOLDER, MODEL, EVALUATIONS, TRAINER)
"""The folders that a run may leave beside its checkpoints; see `own_folders`."""
RESOLVED = frozenset({"study", "overwrite", "training"})
"""Keys that every resolved config of a study has, and hardly another program's."""

ORDER, MOVING, REPLACED = ".anew", ".moving", ".replaced"


def holds_run(folder: Path, configs: Sequence[str] = (CONFIG,)) -> bool:
    """Is there what only a run of ours leaves? Files of such names are not enough: others use them too.

    Args:
        folder: of a run, perhaps.
        configs: files that count if they hold a resolved config.
    """
    return bool(Checkpointer(folder / checkpoint.FOLDER).steps()) or _describes_run(folder, configs)


def _describes_run(folder: Path, configs: Sequence[str]) -> bool:
    """Are there an environment or a config that a run of ours wrote?"""
    environment = read_json(folder / ENVIRONMENT)
    versions = environment.get("versions")
    return (isinstance(versions, dict) and "nanollama" in versions and "command" in environment) or any(
        _sections(read_text(folder / name)).keys() >= RESOLVED for name in configs
    )


def check_own_checkpoints(folder: Path) -> None:
    """Refuse a folder whose checkpoints are a link into another run's, which would be pruned or removed.

    A link to another disk is fine: a folder that holds checkpoints and nothing else of a run is none.

    Args:
        folder: of a run.

    Raises:
        UserError: they are.
    """
    checkpoints = Checkpointer(folder / checkpoint.FOLDER)
    there = checkpoints.folder.resolve()
    if not checkpoints.folder.is_symlink() or there.parent == folder.resolve():
        return
    for other in (there, there.parent):
        if _describes_run(other, (CONFIG,)):
            raise UserError(
                f"{checkpoints.folder} is a link into the folder of another run, {other}, whose checkpoints "
                "would be changed: remove the link, or let it lead to a folder of its own."
            )


def own_folders(folder: Path, config: str | None = None) -> list[str]:
    """Those of `FOLDERS` that are there and that its run has made; only some runs make a model or tokenizer.

    Args:
        folder: of the run.
        config: text of that of a run which is to begin there.
    """
    there = [name for name in FOLDERS if os.path.lexists(folder / name)]
    if not {TOKENIZER_FOLDER, MODEL}.intersection(there):
        return there  # without a look at the config
    model = _sections(config or read_text(folder / CONFIG)).get("model")
    made = ""
    if isinstance(model, Mapping) and model.get("implementation") == "hugging_face":
        made = MODEL if model.get("path") is None else TOKENIZER_FOLDER
    return [name for name in there if name not in (TOKENIZER_FOLDER, MODEL) or name == made]


def check_own(folder: Path, config: str | None = None, remedy: str = OTHER_FOLDER) -> None:
    """Refuse a folder that holds what a run would write, and that no run has written.

    Args:
        folder: of a run that begins.
        config: as for `own_folders`.
        remedy: what to do about it.

    Raises:
        UserError: naming the first such file or folder.
    """
    there = [name for name in reversed(WRITTEN) if os.path.lexists(folder / name)]
    there += own_folders(folder, config)
    if there and not holds_run(folder):
        raise UserError(f"The run folder {folder} holds a {there[0]} that no run wrote: {remedy}.")


def _sections(text: str | None) -> Mapping[str, Any]:
    """Those of the text of a config, none where it cannot be read."""
    from nanollama.config.source import Place, parse_yaml

    try:
        values = parse_yaml(text or "", Place()).plain()
    except UserError:
        return {}
    return values if isinstance(values, dict) else {}


def order_anew(folder: Path) -> None:
    """Let the next start of a run be a start anew."""
    (folder / ORDER).touch()


def cancel_order(folder: Path) -> None:
    """Take back `order_anew`."""
    (folder / ORDER).unlink(missing_ok=True)


def is_ordered_anew(folder: Path) -> bool:
    """Is the run to start anew, and has not begun to?"""
    return os.path.exists(os.path.join(folder, ORDER))  # which is asked of each of 10,000 runs


@contextmanager
def succeed(folder: Path, anew: bool) -> Iterator[None]:
    """Make room for a run in a folder that is locked for it, and decide at its end which of the two stays.

    What a run wrote that was refused in an empty folder is removed: it is no run that somebody stopped. One
    that a launcher has started keeps it, since its state and its log are asked for.

    Args:
        folder: of the run.
        anew: move what an earlier run wrote aside.
    """
    check_own_checkpoints(folder)
    settle(folder)
    was_empty = all(path.name.startswith(".") for path in folder.iterdir())
    try:
        if anew:
            _set_aside(folder)
        yield
    except UserError:
        if was_empty and not has_begun(folder):
            _remove_run(folder)
        raise
    finally:
        settle(folder)


def settle(folder: Path) -> None:
    """Remove the old run of a folder if the new one has begun; put it back if not."""
    if (folder / MOVING).is_dir():
        _put_back(folder)
    if not (folder / REPLACED).is_dir():
        return
    if has_begun(folder):
        drop_replaced(folder)
    else:
        _remove_run(folder)
        os.rename(folder / REPLACED, folder / MOVING)
        _put_back(folder)


def has_begun(folder: Path) -> bool:
    """Is there a row of metrics, a checkpoint or a result?"""
    metrics = folder / METRICS
    return (
        (metrics.exists() and metrics.stat().st_size > 0)
        or (folder / RESULT).exists()
        or bool(Checkpointer(folder / checkpoint.FOLDER).steps())
    )


def drop_replaced(folder: Path) -> None:
    """Remove the old run of a folder, if there is one, and with it the order to do so."""
    old = folder / REPLACED
    if old.is_dir():
        cancel_order(folder)
        (old / RESULT).unlink(missing_ok=True)  # what is left of it is never taken for a finished run
        shutil.rmtree(folder / checkpoint.FOLDER / REPLACED, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _set_aside(folder: Path) -> None:
    """Move what a run wrote, and nothing else, aside; it counts as moved once ``.replaced`` is there."""
    check_own(folder)
    checkpoints = Checkpointer(folder / checkpoint.FOLDER)
    checkpoints.clean()
    (folder / MOVING).mkdir()
    _move([checkpoints.path(step) for step in checkpoints.steps()], checkpoints.folder / REPLACED)
    names = (*WRITTEN, *own_folders(folder))
    _move([folder / name for name in names if os.path.lexists(folder / name)], folder / MOVING)
    os.rename(folder / MOVING, folder / REPLACED)
    sync_folder(folder)


def _put_back(folder: Path) -> None:
    checkpoints = folder / checkpoint.FOLDER
    for aside, home in ((checkpoints / REPLACED, checkpoints), (folder / MOVING, folder)):
        if aside.is_dir():
            _move(list(aside.iterdir()), home)
            aside.rmdir()


def _move(paths: list[Path], into: Path) -> None:
    if paths:
        into.mkdir(exist_ok=True)
    for path in paths:
        os.rename(path, into / path.name)


def _remove_run(folder: Path) -> None:
    """Remove what a run wrote that has not begun."""
    Checkpointer(folder / checkpoint.FOLDER).clean()
    for name in own_folders(folder):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)

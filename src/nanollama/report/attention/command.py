"""The command ``nanollama report attention``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch

import nanollama
from nanollama.errors import UserError
from nanollama.monitor.checkpoint import FOLDER, NAME, Checkpointer, DamagedCheckpoint
from nanollama.monitor.files import write_atomically
from nanollama.monitor.successor import CONFIG
from nanollama.report.attention import OUTPUT, USAGE
from nanollama.report.attention.exhibits import GENERIC, Exhibits, Pattern, of_stream
from nanollama.report.attention.extent import Extent, choose_extent
from nanollama.report.attention.looks import (
    View,
    answers_of,
    is_causal,
    maps_of,
    scores_of,
    views_of,
)
from nanollama.report.attention.page import Look, page_data, render_explorer
from nanollama.studies import Study, find_study, study_of
from nanollama.training.run_config import TrainingRunConfig
from nanollama.training.trained import Trained, load_run, run_folder_of
from nanollama.wording import count


def explore(folder: Path, keys: Sequence[str] = (), exhibits: Exhibits | None = None) -> Path:
    """Write the explorer of a run into its folder; the page's path.

    Args:
        folder: of the run.
        keys: for `nanollama.training.trained.load_run`.
        exhibits: what is shown; None: what its study says.

    Raises:
        UserError: there is no such run, no intact checkpoint, or nothing to show.
    """
    refuse_checkpoint(folder, USAGE)
    study = find_study(study_of([str(run_folder_of(folder) / CONFIG)]))
    kind = study.configs["train"]
    assert issubclass(kind, TrainingRunConfig)
    newest = load_run(kind, folder, keys)
    checkpoints = Checkpointer(folder / FOLDER)
    steps = [step for step in checkpoints.steps() if is_intact(checkpoints, step)]
    exhibits = exhibits or exhibits_of(study, newest.config)
    if not exhibits.sequences:
        raise UserError(f"{folder} has no sequence to show: its batches ask nothing.")
    patterns, views = (*exhibits.patterns, *GENERIC), views_of(newest.model)
    extent = choose_extent(newest.model, exhibits, steps, views, patterns)

    def load(step: int) -> Trained[Any]:
        return newest if step == newest.step else load_run(kind, checkpoints.path(step), keys)

    looks = [look_at(load(step), extent, views, patterns) for step in extent.steps]
    data = page_data(exhibits, extent, views, patterns, looks, is_causal(newest.model))
    _write(folder / OUTPUT, newest, extent, data)
    return folder / OUTPUT


def refuse_checkpoint(folder: Path, usage: str) -> None:
    """Pages show training, so they are of a whole run.

    Raises:
        UserError: the folder is that of a checkpoint.
    """
    if NAME.fullmatch(folder.name):
        raise UserError(f"{folder} is a checkpoint: expected the folder of its run; {usage}")


def exhibits_of(study: Study, config: TrainingRunConfig) -> Exhibits:
    """What a study shows of a run."""
    if not study.exhibits:
        return of_stream(study, config)
    found = resolve_name(study.exhibits)(config)
    assert isinstance(found, Exhibits)
    return found


def look_at(
    trained: Trained[Any], extent: Extent, views: Sequence[View], patterns: Sequence[Pattern]
) -> Look:
    """What a checkpoint shows."""
    model, sequences = trained.model, extent.sequences
    maps = [maps_of(model, views, torch.tensor([shown.tokens]))[0] for shown in sequences]
    answers = [answers_of(model, sequences)]
    answers += [answers_of(model, sequences, change) for change in extent.changes]
    scores = scores_of(model, views, extent.scored, patterns)
    return Look(trained.step, maps, scores, answers)


def is_intact(checkpoints: Checkpointer, step: int) -> bool:
    """Is the checkpoint of a step as it was written?"""
    try:
        checkpoints.verify(checkpoints.path(step))
    except DamagedCheckpoint:
        return False
    return True


def _write(path: Path, newest: Trained[Any], extent: Extent, data: dict[str, Any]) -> None:
    so_far = (
        "" if newest.has_ended else f"Its training has not ended: the newest is of step {newest.step:,}. "
    )
    lead = (
        f"{count(len(extent.steps), 'checkpoint')} of a model of "
        f"{count(newest.model.n_params(), 'parameter')}, {count(len(extent.sequences), 'sequence')}. "
        f"{so_far}Point at a token, or move with the arrow keys, to see where the model looks from there; "
        "put something in the place of a head, and see what becomes of its answers."
    )
    footer = (
        f"Made by nanollama {nanollama.__version__} from the checkpoints in the run folder. This file is "
        "complete in itself: it loads nothing, and its policy lets one script run, by its hash. Weights, "
        "influences and probabilities are rounded to one part in 255."
    )
    text = render_explorer(f"Inside {path.resolve().parent.name}", lead, extent.left_out, footer, data)
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror}; the page goes into the folder of its run."
        ) from None

"""A trained model, back from its run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import torch

from nanollama.config import Config, build_config, config_hash, dump_config, file_hash, load_config
from nanollama.config.source import Node, Place, read_source
from nanollama.distributed import choose_device
from nanollama.errors import UserError
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.monitor import checkpoint
from nanollama.monitor.checkpoint import (
    MODEL,
    Checkpointer,
    find_checkpoint,
    load_weights,
    read_manifest,
)
from nanollama.monitor.files import read_json, write_atomically
from nanollama.monitor.origin import Origin, parse_origins, read_origins
from nanollama.monitor.successor import CONFIG, EVALUATIONS, RESULT
from nanollama.training.intervention_config import LoadConfig
from nanollama.training.interventions import build_interventions, restructure
from nanollama.training.run_config import TrainingRunConfig
from nanollama.wording import runs_there, show, suggest_folder

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=TrainingRunConfig)


@dataclass(frozen=True)
class Trained(Generic[R]):
    """A model as a checkpoint holds it.

    Args:
        folder: of its run.
        config: of its run, with the keys that were set anew.
        model: on the config's device, in evaluation mode.
        checkpoint: folder of the weights.
        step: optimizer steps it was trained for.
        weights_sha256: of the file with its weights.
    """

    folder: Path
    config: R
    model: LanguageModel
    checkpoint: Path
    step: int
    weights_sha256: str

    @property
    def has_ended(self) -> bool:
        """Has its run been trained to its end, or come to this step, the last?"""
        is_whole = read_json(self.folder / RESULT).get("status") == "finished"
        return is_whole or self.step >= self.config.training.n_steps

    @property
    def unfinished(self) -> str:
        """The end of a sentence about it: that its training has not ended; nothing where it has."""
        steps = f"step {self.step} of {self.config.training.n_steps}"
        return "" if self.has_ended else f"; its training has not ended ({steps})"

    @property
    def title(self) -> str:
        """A line on which checkpoint it is, and how large."""
        return f"{self.checkpoint}: {self.model.n_params():,} parameters{self.unfinished}"

    def make_evaluation(self, config: Config) -> Path:
        """The folder of an examination of this checkpoint, with its config.

        It lies in the run, so that it stays when the checkpoint is removed, and has the hash of the config in
        its name, so that no examination overwrites that of another config.

        Raises:
            UserError: it cannot be written to.
        """
        folder = self.folder / EVALUATIONS / f"step_{self.step:08d}_{config_hash(config)}"
        write_examined(
            config, folder, "copy the run to a folder that can be written to, and name the copy as run=DIR"
        )
        return folder


def write_examined(config: Config, folder: Path, advice: str) -> None:
    """Make the folder of an examination, with its config.

    Raises:
        UserError: it cannot be written to; what to do is the advice.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, dump_config(config))
    except OSError as error:
        raise UserError(f"Cannot write {folder}: {error.strerror}; {advice}.") from None


def load_run(
    config_class: type[R], path: Path, keys: Sequence[str] = (), device_key: str = "training.device"
) -> Trained[R]:
    """The model of a run's newest intact checkpoint, or of the checkpoint named.

    Args:
        config_class: of the runs of the study.
        path: folder of a run, or of one of its checkpoints.
        keys: ``key=value`` for keys that shall be other than the run's, such as ``training.device=cpu``.
        device_key: what the device is called where it is asked for, for messages.

    Raises:
        UserError: there is no such run, or no checkpoint that is intact and of this model.
    """
    folder = run_folder_of(path)
    _check_study(config_class, folder)
    config = load_config(config_class, [str(folder / CONFIG), *keys])
    if not any((folder / checkpoint.FOLDER).glob("step_*")):
        raise UserError(f"{folder} holds no checkpoint yet: {_train_command(folder)}.")
    found = find_checkpoint(path)
    manifest = read_manifest(found)
    if manifest["config_hash"] != file_hash(folder / CONFIG):  # as who has moved data may have to
        logger.warning(
            "%s is not as it was when %s was saved: what was learned, and what was held out, may be other "
            "than it says.",
            folder / CONFIG,
            found.name,
        )
    # The weights come from the checkpoint; a generator is needed only to build the model around them.
    model = build_model(config.model, torch.Generator().manual_seed(0), is_to_be_loaded=True)
    interventions = build_interventions(config.interventions, config.training.seed)
    restructure(interventions, model, int(manifest["step"]))
    try:
        load_weights(found, model)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip(" .\t")
        raise UserError(f"{found} does not fit the model of {folder / CONFIG}: {reason}.") from error
    model.to(choose_device(config.training.device, key=device_key)).eval()
    weights = manifest["files"][MODEL]["sha256"]
    return Trained(folder, config, model, found, int(manifest["step"]), weights)


def _check_study(config_class: type[TrainingRunConfig], folder: Path) -> None:
    """Refuse the run of another study before its keys are taken for mistakes."""
    known = get_args(config_class.model_fields["study"].annotation)
    study = read_source([str(folder / CONFIG)]).plain().get("study")
    if known and study not in known:
        raise UserError(
            f"{folder} is a run of the study {show(study)}, not of {' or '.join(map(repr, known))}."
        )


def directly_loaded(config: R, noted: Mapping[str, Origin]) -> Iterator[tuple[Path, R, Mapping[str, Origin]]]:
    """The runs that one run loads itself, each with its config and what it has noted.

    Args:
        config: of the run.
        noted: by the run, see `noted_before`.

    Raises:
        UserError: as `loaded_runs`.
    """
    for index, intervention in enumerate(config.interventions):
        if isinstance(intervention, LoadConfig):
            found = _loaded_run(type(config), intervention.run, noted.get(f"interventions.{index}"))
            if found is not None:
                yield found


def loaded_runs(
    config: R,
    parents: Callable[[R, Mapping[str, Origin]], Iterable[tuple[Path, R, Mapping[str, Origin]]]] = (
        directly_loaded
    ),
) -> Iterator[tuple[Path, R]]:
    """Runs whose weights have gone into a run, also by way of others, with the configs they had then.

    What a run has loaded it has noted, see `nanollama.monitor.origin`; what it is still to load is read where
    it is. Each folder once, or once a config.

    Args:
        config: of the run.
        parents: those that have gone into a run of this config and these notes without others between.

    Raises:
        UserError: a folder is not that of a run of the same study; or one that is gone or was trained anew
            had been loaded by a run that did not note its config.
    """
    known: set[tuple[Path, str]] = set()
    left: list[tuple[R, Mapping[str, Origin]]] = [(config, noted_before(config))]
    while left:
        for path, parent, its in parents(*left.pop()):
            key = path.resolve(), parent.model_dump_json()
            if key not in known:
                known.add(key)
                left.append((parent, its))
                yield path, parent


def noted_before(config: TrainingRunConfig) -> dict[str, Origin]:
    """What a run that goes on has noted, as far as a checkpoint of its own holds it."""
    done = max(Checkpointer(config.folder / checkpoint.FOLDER).steps(), default=0)
    noted = read_origins(config.folder)
    return {key: origin for key, origin in noted.items() if origin.at_step < done and origin.config}


def _loaded_run(
    kind: type[R], run: Path, noted: Origin | None
) -> tuple[Path, R, Mapping[str, Origin]] | None:
    """A run that is loaded, its config, and what it has noted itself; None where it is not there yet.

    One that is gone and of which nothing is noted is refused when it is due.
    """
    if noted is not None and noted.config is not None:
        place = Place(f"{noted.run}/{CONFIG}")
        return Path(noted.run), build_config(kind, as_node(noted.config, place)), parse_origins(noted.loaded)
    gone = "" if noted is None else "it is gone" if not run.is_dir() else noted.lost()
    if gone:
        raise UserError(
            f"What {run} had learned cannot be told: a run began from it that did not note its config, and "
            f"{gone}. Restore it, or train what began from it anew with overwrite=true."
        )
    if not run.is_dir():
        return None
    folder = run_folder_of(run)
    return run, load_config(kind, [str(folder / CONFIG)]), read_origins(folder)


def as_node(value: Any, place: Place) -> Node:
    """A plain value as the tree that a config is built from."""
    if isinstance(value, dict):
        return Node({key: as_node(inner, place) for key, inner in value.items()}, place)
    if isinstance(value, list):
        return Node([as_node(inner, place) for inner in value], place)
    return Node(value, place)


def run_folder_of(path: Path) -> Path:
    """The run folder that is named, or that a named checkpoint lies in.

    Raises:
        UserError: it is not one.
    """
    folder = path.parent.parent if checkpoint.NAME.fullmatch(path.name) else path
    if not folder.is_dir():
        there = f", or name one that is there, such as {', '.join(runs)}" if (runs := runs_there()) else ""
        hint = suggest_folder(folder) or f": {_train_command(folder)}{there}."
        raise UserError(f"There is no run folder {folder}{hint}")
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not a run folder: it holds no {CONFIG}; expected the folder of a run, such as "
            "runs/debug, or of one of its checkpoints."
        )
    return folder


def _train_command(folder: Path) -> str:
    """The command that trains the run of a folder, as far as the names in the configs of studies tell."""
    for path in sorted(Path("apps").glob("*/config/*.yaml")):
        if f"name: {folder.name}" in path.read_text(encoding="utf-8").splitlines():
            return f"train it first, `nanollama train {path}`"
    return f"train it first, `nanollama train CONFIG run_dir={folder}`"

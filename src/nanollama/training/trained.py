"""A trained model, back from its run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, get_args

import torch

from nanollama.config import Config, config_hash, dump_config, load_config
from nanollama.config.source import read_source
from nanollama.distributed import choose_device
from nanollama.errors import UserError
from nanollama.model import build_model
from nanollama.model.protocol import LanguageModel
from nanollama.monitor import checkpoint
from nanollama.monitor.checkpoint import MODEL, find_checkpoint, load_weights, read_manifest
from nanollama.monitor.files import write_atomically
from nanollama.monitor.successor import CONFIG, EVALUATIONS
from nanollama.training.intervention_config import LoadConfig
from nanollama.training.interventions import build_interventions, restructure
from nanollama.training.run_config import TrainingRunConfig
from nanollama.wording import show, suggest_folder

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

    def make_evaluation(self, config: Config) -> Path:
        """The folder of an examination of this checkpoint, with its config.

        It lies in the run, so that it stays when the checkpoint is removed, and has the hash of the config in
        its name, so that no examination overwrites that of another config.

        Raises:
            UserError: it cannot be written to.
        """
        folder = self.folder / EVALUATIONS / f"step_{self.step:08d}_{config_hash(config)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / CONFIG, dump_config(config))
        except OSError as error:
            raise UserError(
                f"Cannot write {folder}: {error.strerror}; copy the run to a folder that can be written to, "
                "and name the copy as run=DIR."
            ) from None
        return folder


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
    # The weights come from the checkpoint; a generator is needed only to build the model around them.
    model = build_model(config.model, torch.Generator().manual_seed(0))
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


def loaded_runs(config: R) -> Iterator[tuple[Path, R]]:
    """Runs whose weights have gone into a run, also by way of others, with their configs; each folder once.

    Raises:
        UserError: a folder is not that of a run of the same study.
    """
    known: set[Path] = set()
    left = [config]
    while left:
        for intervention in left.pop().interventions:
            # A folder that is gone was loaded before the run was stopped, or is refused when it is due.
            if not isinstance(intervention, LoadConfig) or not intervention.run.is_dir():
                continue
            if intervention.run.resolve() not in known:
                known.add(intervention.run.resolve())
                left.append(load_config(type(config), [str(run_folder_of(intervention.run) / CONFIG)]))
                yield intervention.run, left[-1]


def run_folder_of(path: Path) -> Path:
    """The run folder that is named, or that a named checkpoint lies in.

    Raises:
        UserError: it is not one.
    """
    folder = path.parent.parent if checkpoint.NAME.fullmatch(path.name) else path
    if not folder.is_dir():
        hint = suggest_folder(folder) or f": {_train_command(folder)}."
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

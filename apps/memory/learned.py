"""What went into the weights of a run: by `load`, by ``model.path``, and by way of others.

A model of ``model.path`` was made here where its folder is that of a pretraining run, or was written by
``nanollama export hf``, which leaves the config of the run in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apps.memory.pretrained_model.settings import PretrainConfig
from apps.memory.pretrained_model.stored import PATH_KEY, config_file
from apps.memory.settings import MemoryConfig
from nanollama.config import build_config
from nanollama.config.source import Place, read_source
from nanollama.errors import UserError
from nanollama.monitor.origin import Origin, parse_origins, read_origins
from nanollama.monitor.successor import CONFIG
from nanollama.studies import find_study
from nanollama.training.run_config import TrainingRunConfig
from nanollama.training.trained import as_node, directly_loaded, loaded_runs, noted_before

Source = tuple[Path, TrainingRunConfig, Mapping[str, Origin]]


def learned_before(config: TrainingRunConfig) -> Iterator[tuple[Path, TrainingRunConfig]]:
    """Runs, and folders of models, whose weights have gone into a run, with the configs they were made by.

    Raises:
        UserError: as `nanollama.training.trained.loaded_runs`.
    """
    yield from loaded_runs(config, _parents)


def _parents(config: TrainingRunConfig, noted: Mapping[str, Origin]) -> Iterator[Source]:
    yield from directly_loaded(config, noted)
    yield from _base_of(config, noted)


def _base_of(config: TrainingRunConfig, noted: Mapping[str, Origin]) -> Iterator[Source]:
    """The model of ``model.path``, where it is known by which config it was made."""
    base = config.pretrained if isinstance(config, MemoryConfig) else None
    if base is None:
        return
    origin, file = noted.get(PATH_KEY), config_file(base)
    if origin is not None and origin.config is not None:
        made_by, folder, its = origin.config, Path(origin.run), parse_origins(origin.loaded)
    elif file is not None:
        made_by, folder = read_source([str(file)]).plain(), file.parent
        its = read_origins(folder) if file.name == CONFIG else {}
    else:
        return
    if (kind := _kind_of(made_by)) is not None:
        found = build_config(kind, as_node(made_by, Place(str(folder / (file.name if file else CONFIG)))))
        yield folder, found, its or noted_before(found)


def _kind_of(made_by: Mapping[str, Any]) -> type[TrainingRunConfig] | None:
    """What kind of config it is; None for a study that is not here, of which nothing can be told."""
    if made_by.get("study") == "memory":
        return MemoryConfig if "data" in made_by else PretrainConfig
    try:
        kind = find_study(str(made_by.get("study"))).configs["train"]
    except UserError:
        return None
    return kind if issubclass(kind, TrainingRunConfig) else None

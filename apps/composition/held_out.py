"""Nothing that a run is tested on may have been learned by the runs whose weights it starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from apps.composition.data import n_learned_from
from apps.composition.data_config import DataConfig
from apps.composition.settings import CompositionConfig
from nanollama.config import load_config
from nanollama.errors import UserError
from nanollama.monitor.run_folder import CONFIG
from nanollama.training.intervention_config import LoadConfig
from nanollama.training.trained import run_folder_of


def check_unlearned(config: CompositionConfig) -> None:
    """The weights that a run starts from must not have learned what it is tested on.

    Raises:
        UserError: a run that it loads, or one that this was loaded from, learned from some of its test.
    """
    for path, data in _loaded(config, set()):
        check_apart(config.data, data, f"The run {path}")


def check_apart(tested: DataConfig, learned: DataConfig, learner: str) -> None:
    """Refuse to test on sequences that `learner` learns from.

    Raises:
        UserError: there are some.
    """
    n = n_learned_from(tested, learned)
    if n:
        raise UserError(
            f"{learner} learns from {n} of the sequences to test on: give both the same data.seed, "
            "data.n_train and data.n_test, or other problem tokens."
        )


def _loaded(config: CompositionConfig, known: set[Path]) -> Iterator[tuple[Path, DataConfig]]:
    """Runs whose weights have gone into a run, and what they read; each folder once."""
    for intervention in config.interventions:
        # A folder that is gone was loaded before the run was stopped, or is refused when it is due.
        if not isinstance(intervention, LoadConfig) or not intervention.run.is_dir():
            continue
        if intervention.run.resolve() not in known:
            known.add(intervention.run.resolve())
            source = _config_of(intervention.run)
            yield intervention.run, source.data
            yield from _loaded(source, known)


def _config_of(run: Path) -> CompositionConfig:
    return load_config(CompositionConfig, [str(run_folder_of(run) / CONFIG)])

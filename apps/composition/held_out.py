"""Nothing that a run is tested on may have been learned by the runs whose weights it starts from."""

from __future__ import annotations

from apps.composition.data import n_learned_from
from apps.composition.data_config import DataConfig
from apps.composition.settings import CompositionConfig
from nanollama.errors import UserError
from nanollama.training.trained import loaded_runs


def check_unlearned(config: CompositionConfig) -> None:
    """The weights that a run starts from must not have learned what it is tested on.

    Raises:
        UserError: a run that it loads, or one that this was loaded from, learned from some of its test.
    """
    for path, source in loaded_runs(config):
        check_apart(config.data, source.data, f"The run {path}")


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

"""Nothing that a run is asked about as unseen was learned by the runs whose weights it starts from."""

from __future__ import annotations

from collections.abc import Iterator

from apps.memory.data_settings import DataConfig
from apps.memory.settings import MemoryConfig
from nanollama.errors import UserError
from nanollama.training.trained import loaded_runs


def check_unlearned(config: MemoryConfig) -> None:
    """The weights that a run starts from must not have learned what it is asked about as unseen.

    Raises:
        UserError: a run that it loads, or one that this was loaded from, learned of it.
    """
    for path, source in loaded_runs(config):
        for name, key, there, here in _learned_there(config, source.data):
            raise UserError(
                f"The run {path} may have learned what the set '{name}' asks about: data.{key} is {there} "
                f"there and {here} here; give both the same, or leave the set out of recall.sets."
            )


def _learned_there(config: MemoryConfig, source: DataConfig) -> Iterator[tuple[str, str, int, int]]:
    """Sets of questions with the key by which another run learned of them, and its value there and here."""
    data, sets = config.data, config.recall.sets
    if "unseen" in sets and source.tells_of_people and source.n_people > data.n_people:
        yield "unseen", "n_people", source.n_people, data.n_people
    if source.has("sums", "sumstool"):
        if "sums_unseen" in sets and source.sums.seed != data.sums.seed:
            yield "sums_unseen", "sums.seed", source.sums.seed, data.sums.seed
        if "sums_longer" in sets and source.sums.n_digits > data.sums.n_digits:
            yield "sums_longer", "sums.n_digits", source.sums.n_digits, data.sums.n_digits

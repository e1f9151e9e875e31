"""What a run is asked about as unseen, or holds out of its text, was not learned where it starts from."""

from __future__ import annotations

from collections.abc import Iterator

from apps.memory.data_settings import DataConfig, SourceConfig
from apps.memory.learned import learned_before
from apps.memory.pretrained_model.settings import PretrainConfig
from apps.memory.settings import MemoryConfig
from apps.memory.sums import SUM_KINDS
from nanollama.data.text.config import TextConfig
from nanollama.errors import UserError
from nanollama.training.run_config import TrainingRunConfig
from nanollama.wording import show


def check_unlearned(config: MemoryConfig) -> None:
    """The weights that a run starts from must not have learned what it is asked about as unseen.

    Raises:
        UserError: a run that it loads, or one that this was loaded from, learned of it.
    """
    for path, source in learned_before(config):
        text, data = getattr(source, "text", None), _dialogs_of(source)
        if config.text is not None and isinstance(text, TextConfig):
            config.text.check_unlearned(path, text)
        for name, key, there, here in () if data is None else _learned_there(config, data):
            raise UserError(
                f"The run {path} may have learned what the set '{name}' asks about: data.{key} is {there} "
                f"there and {here} here; give both the same, or leave the set out of recall.sets."
            )


def _dialogs_of(source: TrainingRunConfig) -> DataConfig | None:
    """What a run has learned from dialogs: one that pretrains has read sums at most."""
    if isinstance(source, MemoryConfig):
        return source.data
    if not isinstance(source, PretrainConfig) or source.dialogs is None:
        return None
    kinds = [SourceConfig(kind=kind) for kind in SUM_KINDS]
    return DataConfig(n_people=1, sources=tuple(kinds), sums=source.dialogs.sums)


def _learned_there(config: MemoryConfig, source: DataConfig) -> Iterator[tuple[str, str, object, object]]:
    """Sets of questions with the key by which another run learned of them, and its value there and here."""
    data, sets = config.data, config.recall.sets
    if "unseen" in sets and source.tells_of_people and source.n_people > data.n_people:
        yield "unseen", "n_people", source.n_people, data.n_people
    elif "unseen" in sets and source.tells_of_people and source.dependence != data.dependence:
        yield "unseen", "dependence", _show(source), _show(data)
    if source.has("sums", "sumstool"):
        if "sums_unseen" in sets and source.sums.seed != data.sums.seed:
            yield "sums_unseen", "sums.seed", source.sums.seed, data.sums.seed
        if "sums_longer" in sets and source.sums.n_digits > data.sums.n_digits:
            yield "sums_longer", "sums.n_digits", source.sums.n_digits, data.sums.n_digits


def _show(data: DataConfig) -> str:
    """The section `dependence`, by which people have other names."""
    return show(None if data.dependence is None else data.dependence.model_dump(mode="json"))

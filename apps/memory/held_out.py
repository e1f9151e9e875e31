"""What a run is asked about as unseen, or holds out of its text, was not learned where it starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from apps.memory.data_settings import DataConfig, SourceConfig
from apps.memory.pretrained_model.settings import PretrainConfig
from apps.memory.settings import MemoryConfig
from apps.memory.sums import SUM_KINDS
from nanollama.config import load_config
from nanollama.config.source import read_source
from nanollama.errors import UserError
from nanollama.monitor.successor import CONFIG, MODEL
from nanollama.training.trained import loaded_runs
from nanollama.wording import show

DIALOGS = "dialogs"
"""Key of the config of a run that pretrains."""


def check_unlearned(config: MemoryConfig) -> None:
    """The weights that a run starts from must not have learned what it is asked about as unseen.

    Raises:
        UserError: a run that it loads, or one that this was loaded from, learned of it.
    """
    for path, held_out in _text_runs(config):
        assert config.text is not None
        config.text.check_unlearned(path, held_out)
    sources = [(path, source.data) for path, source in loaded_runs(config)]
    for path, learned in [*sources, *_of_base(config)]:
        for name, key, there, here in _learned_there(config, learned):
            raise UserError(
                f"The run {path} may have learned what the set '{name}' asks about: data.{key} is {there} "
                f"there and {here} here; give both the same, or leave the set out of recall.sets."
            )


def _text_runs(config: MemoryConfig) -> Iterator[tuple[Path, float]]:
    """Runs that have learned from text and whose weights a run starts from, each with the share it held out.

    Those that they were loaded from themselves were held to the same when they began.
    """
    if config.text is None:
        return
    folder = Path(config.pretrained or "")
    if folder.name == MODEL and (folder.parent / CONFIG).is_file():
        text = read_source([str(folder.parent / CONFIG)]).plain().get("text") or {}
        yield folder.parent, text.get("held_out", 1.0)
    for path, source in loaded_runs(config):
        if source.text is not None:
            yield path, source.text.held_out


def _of_base(config: MemoryConfig) -> Iterator[tuple[Path, DataConfig]]:
    """The sums that a pretrained model has read, where its run lies around its folder."""
    if config.pretrained is None:
        return
    run = Path(config.pretrained).parent
    if not (run / CONFIG).is_file() or DIALOGS not in read_source([str(run / CONFIG)]).value:
        return
    dialogs = load_config(PretrainConfig, [str(run / CONFIG)]).dialogs
    if dialogs is not None:
        kinds = [SourceConfig(kind=kind) for kind in SUM_KINDS]
        yield run, DataConfig(n_people=1, sources=tuple(kinds), sums=dialogs.sums)


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

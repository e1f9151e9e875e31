"""What the page of a grid says of associative recall: how much is recalled with how large a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from apps.gssm.recall_config import RecallDataConfig
from apps.gssm.settings import GssmConfig
from nanollama.launcher.grid.results import Finished, GridResults, final
from nanollama.launcher.grid.sections import draw_means
from nanollama.measures import show_number
from nanollama.model import outline
from nanollama.report.grouping import Setting, group_runs
from nanollama.report.page import Section
from nanollama.report.tables import Table, show_mean
from nanollama.statistics import Interval

LEARNING_RATE = "training.optimizer.learning_rate"
BYTES = 4  # of a number in float32


class Best(NamedTuple):
    """What a model came to with the learning rate that suits it best.

    Args:
        model: its name.
        state_size: numbers that it remembers of a whole sequence.
        learning_rate: that rate.
        recall: over seeds.
    """

    model: str
    state_size: int
    learning_rate: float
    recall: Interval


def recall_sections(grid: GridResults) -> Sequence[Section]:
    """The sections; none where nothing was recalled."""
    found = sorted(best_of_rates(grid), key=lambda best: (best.model, best.state_size))
    if not found:
        return ()
    rows = [
        (best.model, show_number(best.state_size), show_number(best.learning_rate), show_mean(best.recall))
        for best in found
    ]
    caption = "Recall with the learning rate of the largest mean; numbers that are remembered of a sequence."
    points = [(best.model, best.state_size, best.recall) for best in found]
    table = Table(caption, ("model", "state", "learning rate", "recall"), tuple(rows))
    picture = draw_means("recall_by_state", points, "numbers remembered of a sequence", "recall")
    return [Section("Recall and state", (table, picture))]


def best_of_rates(grid: GridResults) -> list[Best]:
    """For settings that differ in their learning rate alone, the one that recalls most."""
    measured = [(setting, final(setting, "recall")) for setting in grid.settings if is_recall(setting)]
    known = [(setting, recall) for setting, recall in measured if recall is not None]
    sweeps = group_runs(known, [setting.values for setting, _ in known], (LEARNING_RATE,))
    found = []
    for sweep in sweeps:
        setting, recall = max(sweep.runs, key=lambda pair: pair[1].mean)
        config = config_of(setting)
        rate = config.training.optimizer.learning_rate
        found.append(Best(name_of(config), state_size(config), rate, recall))
    return found


def is_recall(setting: Setting[Finished]) -> bool:
    """Was associative recall learned?"""
    return isinstance(config_of(setting).data, RecallDataConfig)


def config_of(setting: Setting[Finished]) -> GssmConfig:
    """Of the first run."""
    config = setting.runs[0].run.config
    assert isinstance(config, GssmConfig)
    return config


def name_of(config: GssmConfig) -> str:
    """The model's mixers."""
    names = config.model.implementation
    return names if isinstance(names, str) else " and ".join(names)


def state_size(config: GssmConfig) -> int:
    """Numbers that a model remembers of a sequence when it decodes."""
    return outline(config.model).state_bytes(config.data.seq_len) // BYTES

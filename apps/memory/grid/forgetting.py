"""What pretrained models have forgotten: where they know as much of what was learned, and at the end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, cast

from apps.memory.grid.figures import AXIS_LABELS
from apps.memory.grid.tables import ENOUGH, arm_of
from apps.memory.settings import MemoryConfig
from nanollama.launcher.grid.arms import ARM
from nanollama.launcher.grid.results import Finished, GridResults, final
from nanollama.launcher.grid.sections import BANDS, BRACKETS, draw_means
from nanollama.measures import is_number, show_number
from nanollama.report.aggregate import seeds_or_own
from nanollama.report.grouping import Setting, show_value
from nanollama.report.page import Block
from nanollama.report.tables import Table, show_mean
from nanollama.statistics import Interval

VARIATION, TEXT, RECALL = "total_variation_base", "text_loss_change_nats", "recall_trained"
KIND = "data.sources.0.kind"
PEOPLE = "data.n_people"
RULE = (
    f"Chosen, of the settings where both ways reach a recall of {ENOUGH:g}, as that whose larger total "
    "variation of the two is smallest there: "
)
"""Neither way is favoured, and a setting that suits one alone is not taken."""


def learned_row(done: Finished) -> Mapping[str, Any]:
    """The first evaluation at which a run knows enough of whom it was trained on; empty if there is none."""
    return next((row for row in done.evals if is_number(row.get(RECALL)) and row[RECALL] >= ENOUGH), {})


def at_equal_recall(setting: Setting[Finished], name: str) -> Interval | None:
    """A measure there, over seeds; None where one of them never knew enough."""
    return seeds_or_own(setting.read(learned_row), name)


def forgetting_table(grid: GridResults) -> Table | None:
    """A row a setting; None for grids without pretrained models whose forgetting was measured."""
    if not any(final(setting, VARIATION) for setting in grid.settings):
        return None
    rows = [
        (
            setting.label,
            ", ".join(show_number(learned_row(done).get("step")) for done in setting.runs),
            *(show_mean(at_equal_recall(setting, name)) for name in (VARIATION, TEXT)),
            *(show_mean(final(setting, name)) for name in (VARIATION, TEXT, RECALL, "recall_unseen")),
        )
        for setting in grid.settings
    ]
    columns = (
        "setting",
        f"steps to recall {ENOUGH:g}, by seed",
        "total variation there",
        "text loss there, nats",
        "total variation at the end",
        "text loss at the end, nats",
        "recall, trained",
        "recall, unseen",
    )
    chosen = choice(grid)
    words = f" {RULE}{chosen}." if chosen else ""
    caption = f"Against the pretrained model: means over seeds, in brackets {BRACKETS}.{words}"
    return Table(caption, columns, tuple(rows))


def choice(grid: GridResults) -> str | None:
    """The keys of the setting that `RULE` chooses, for a command line; None where there is no such choice.

    There is one in a grid of both ways, at other values of keys that say nothing of what is learned.
    """
    varied = [key for key in grid.plan.runs[0].values if key != grid.plan.seed_key]
    keys = [key for key in varied if key != KIND]
    if KIND not in varied or not keys or {ARM, PEOPLE} & {*keys}:
        return None
    kinds = {show_value(run.values[KIND]) for run in grid.plan.runs}
    largest: dict[str, dict[str, float]] = {}
    for setting in grid.settings:
        found = at_equal_recall(setting, VARIATION)
        if found is not None:
            values = setting.runs[0].run.values
            words = " ".join(shlex.quote(f"{key}={show_value(values[key])}") for key in keys)
            largest.setdefault(words, {})[show_value(values[KIND])] = found.mean
    whole = {words: max(of.values()) for words, of in largest.items() if of.keys() == kinds}
    return min(whole, key=lambda words: whole[words]) if whole else f"none, of {len(grid.settings)} settings"


def forgetting_blocks(grid: GridResults) -> tuple[Block, ...]:
    """At equal recall, by how many people were learned about; a line for each way to know them."""
    blocks: list[Block] = []
    for name in (VARIATION, TEXT):
        points = [
            (arm_of(config), config.data.n_people, found)
            for setting in grid.settings
            if (config := _config(setting)).data.tells_of_people
            and (found := at_equal_recall(setting, name)) is not None
        ]
        if len({place for _, place, _ in points}) > 1 and len({point[:2] for point in points}) == len(points):
            caption = f"Where recall of trained people is first {ENOUGH:g}. {BANDS}"
            blocks.append(draw_means(f"{name}_at_equal_recall", points, AXIS_LABELS["people"], name, caption))
    return tuple(blocks)


def _config(setting: Setting[Finished]) -> MemoryConfig:
    return cast(MemoryConfig, setting.runs[0].run.config)

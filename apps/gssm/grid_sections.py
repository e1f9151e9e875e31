"""What the page of a grid of this study shows beside what every grid has: the sources and the gaps to them.

Bands are over kernel seeds, a value each. The excess is the divergence from the exact distribution of the
next symbol.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from apps.gssm.data_config import GraphDataConfig
from apps.gssm.picture import source_picture
from apps.gssm.recall_sections import recall_sections
from apps.gssm.scaling import Points, PowerLaw, fit_power_law
from apps.gssm.settings import GssmConfig
from apps.gssm.source import build_source
from nanollama.launcher.grid.results import Finished, GridResults, final
from nanollama.launcher.grid.sections import MAX_LINES, draw_means
from nanollama.measures import ABSENT
from nanollama.report.figures import plot_curves
from nanollama.report.grouping import Setting
from nanollama.report.page import Block, Picture, Section, Words
from nanollama.report.tables import Table, show_mean
from nanollama.statistics import Interval, mean_interval
from nanollama.wording import count

BY_POSITION = re.compile(r"kl_nats/positions_(\d+)_(\d+)")
EXCESS = "kl_nats"
MAX_SOURCES = 6
"""Of which pictures are drawn."""
N_SEQUENCES = 128
"""That a picture's entropies are told from."""

SizeOf = Callable[[Finished, dict[str, Any]], float]
"""A size of a run at one of its evaluations."""


def grid_sections(grid: GridResults) -> Sequence[Section]:
    """The sections; see `nanollama.launcher.grid.outcome`."""
    if not any(final(setting, EXCESS) for setting in grid.settings):
        return recall_sections(grid)  # another task than graphs, or none whose floor is known
    return [
        Section("By position", (*left_out(grid), *position_pictures(grid))),
        Section("Sources", (entropy_table(grid), *source_pictures(grid))),
        Section("Excess against size", scaling_blocks(grid)),
    ]


def left_out(grid: GridResults) -> tuple[Words, ...]:
    """Which settings are in the tables alone, as there are too many lines for a figure."""
    others = grid.settings[MAX_LINES:]
    if not others:
        return ()
    names = "; ".join(setting.label for setting in others)
    drawn = f"{MAX_LINES} of {count(len(grid.settings), 'setting')}"
    return (Words(f"Figures with a line a setting draw the first {drawn}; left out: {names}."),)


def position_pictures(grid: GridResults) -> Iterator[Picture]:
    """The excess by position after the last step, a line a setting."""
    points = [
        (setting.label, int(match[2]) + 1, found)
        for setting in grid.settings[:MAX_LINES]
        for name in setting.runs[0].row
        if (match := BY_POSITION.fullmatch(name)) and (found := final(setting, name))
    ]
    if points:
        yield draw_means("kl_by_position", points, "symbols seen, at most", EXCESS)


def entropy_table(grid: GridResults) -> Table:
    """Are entropies matched, and how much could be learned at all? Of settings whose floor is known."""
    rows = []
    for setting in grid.settings:
        if final(setting, "floor_nats") is None:
            continue
        learnable = [done.row["unigram_nats"] - done.row["floor_nats"] for done in setting.runs]
        rows.append(
            (
                setting.label,
                *(show_mean(final(setting, name)) for name in ("floor_nats", "unigram_nats")),
                show_mean(mean_interval(learnable)),
            )
        )
    columns = ("setting", "floor", "unigrams", "unigrams less floor")
    return Table("Entropies in nats a symbol: means over kernel seeds.", columns, tuple(rows))


def source_pictures(grid: GridResults) -> Iterator[Picture]:
    """The source of each setting with its first seed, each source once."""
    seen: set[str] = set()
    for setting in grid.settings:
        config = setting.runs[0].run.config
        assert isinstance(config, GssmConfig)
        if isinstance(config.data, GraphDataConfig):
            source = build_source(config.data)
            if source.sha256 not in seen and len(seen) < MAX_SOURCES:
                seen.add(source.sha256)
                yield source_picture(setting.label, source, N_SEQUENCES)


def scaling_blocks(grid: GridResults) -> tuple[Block, ...]:
    """The excess against data and compute through training, against parameters after it, with fitted laws."""
    ways: list[tuple[str, str, SizeOf, bool]] = [
        ("data", "symbols learned from", _symbols, False),
        ("compute", "parameters times symbols", _compute, False),
        ("parameters", "parameters", _n_params, True),
    ]
    pictures, laws = [], []
    for name, label, size, last_alone in ways:
        lines = _lines(grid, size, last_alone)
        fitted = {line: fit_power_law(by_seed) for line, by_seed in lines.items()}
        laws += [
            (line, label, ABSENT if law is None else show_mean(law.exponent)) for line, law in fitted.items()
        ]
        drawn = dict([*lines.items()][:MAX_LINES])
        if any(fitted[line] is not None for line in drawn):
            pictures.append(_picture(name, label, drawn, fitted))
    if not pictures:
        return ()
    caption = "Exponents of fitted power laws, excess ~ size ^ -exponent, with 95 % intervals over seeds."
    return (*left_out(grid), *pictures, Table(caption, ("setting", "size", "exponent"), tuple(laws)))


def _lines(
    grid: GridResults, size: SizeOf, last_alone: bool
) -> dict[str, dict[Any, list[tuple[float, float]]]]:
    """Points by setting and seed; where the last evaluation counts alone, all settings are one line."""
    lines: dict[str, dict[Any, list[tuple[float, float]]]] = {}
    for setting in grid.settings:
        by_seed = lines.setdefault("all settings" if last_alone else setting.label, {})
        for seed, done in _by_seed(grid, setting):
            rows = [row for row in done.evals if row.get(EXCESS)]
            for row in rows[-1:] if last_alone else rows:
                by_seed.setdefault(seed, []).append((size(done, dict(row)), row[EXCESS]))
    return lines


def _by_seed(grid: GridResults, setting: Setting[Finished]) -> Iterator[tuple[Any, Finished]]:
    for done in setting.runs:
        yield done.run.values.get(grid.plan.seed_key or ""), done


def means_by_size(by_seed: Mapping[Any, Points]) -> Iterator[tuple[float, Interval]]:
    """The mean over seeds at each size: a value a seed, its mean where several settings are as large."""
    for size in sorted({x for points in by_seed.values() for x, _ in points}):
        of_seeds = [[y for x, y in points if x == size] for points in by_seed.values()]
        yield size, mean_interval([fmean(excesses) for excesses in of_seeds if excesses])


def _picture(
    name: str,
    label: str,
    lines: dict[str, dict[Any, list[tuple[float, float]]]],
    fitted: dict[str, PowerLaw | None],
) -> Picture:
    rows: list[dict[str, Any]] = []
    for line, by_seed in lines.items():
        for place, found in means_by_size(by_seed):
            rows.append({"run": line, "x": place, "mean": found.mean, "low": found.low, "high": found.high})
            law = fitted[line]
            if law is not None:
                y = law(place)
                rows.append({"run": f"{line}, fitted", "x": place, "mean": y, "low": y, "high": y})
    figure = plot_curves(
        rows,
        "x",
        "mean",
        low="low",
        high="high",
        x_label=label,
        y_label="excess, nats a symbol",
        log_x=True,
        log_y=True,
    )
    exponents = "; ".join(
        f"{line}: exponent {show_mean(law.exponent)}" for line in lines if (law := fitted[line]) is not None
    )
    return Picture(
        f"excess_by_{name}",
        figure,
        f"Excess over the floor by {label}, with fitted power laws.",
        f"{exponents}.",
    )


def _symbols(done: Finished, row: dict[str, Any]) -> float:
    config = done.run.config
    assert isinstance(config, GssmConfig)
    return float(row["step"] * config.resolved_training.batch_size * config.data.seq_len)


def _compute(done: Finished, row: dict[str, Any]) -> float:
    return _n_params(done, row) * _symbols(done, row)


def _n_params(done: Finished, row: dict[str, Any]) -> float:
    return float(done.row["n_params"])

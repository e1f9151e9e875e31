"""What a grid of pretrained models says: what was forgotten at equal recall, and which setting is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from test_finetune import config_of

from apps.memory.grid.forgetting import choice, forgetting_blocks, forgetting_table
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.results import GridResults
from nanollama.launcher.plan import Plan
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS

KIND = "data.sources.0.kind"
Evals = list[tuple[float, float]]
"""Recall and total variation at steps 5, 10, ..."""


def grid_of(folder: Path, runs: list[tuple[dict[str, Any], Evals]]) -> GridResults:
    """A grid of finished runs, each with its values and evaluations."""
    planned, rows = [], []
    for number, (values, evals) in enumerate(runs):
        run_folder = folder / str(number)
        run_folder.mkdir()
        data = {"n_people": values.get("data.n_people", 2), "sources": [{"kind": values[KIND]}]}
        config = config_of(Path("base"), data=data)
        planned.append(GridRun(str(number), run_folder, config, values))
        for place, (recall, variation) in enumerate(evals, start=1):
            row = {"step": 5 * place, "recall_trained": recall, "total_variation_base": variation}
            RowFile(run_folder / EVALS).append(row | {"text_loss_change_nats": variation / 2})
        rows.append({"run": str(number), "status": "finished", **values, **row, "step": 5 * len(evals)})
    plan = Plan(
        "toy", folder, "apps.memory.train", planned, "training.seed", False, LocalConfig(), SlurmConfig()
    )
    return GridResults(plan, rows)


def swept(folder: Path, evals: dict[tuple[str, float], Evals]) -> GridResults:
    runs = [
        ({KIND: kind, "training.optimizer.learning_rate": rate, "training.seed": 3}, found)
        for (kind, rate), found in evals.items()
    ]
    return grid_of(folder, runs)


def test_the_choice_suits_both_ways(tmp_path: Path) -> None:
    grid = swept(
        tmp_path,
        {
            ("qa", 1e-3): [(0.5, 0.3), (0.96, 0.6)],
            ("qatool", 1e-3): [(0.95, 0.1), (1.0, 0.9)],  # .6 is the larger of the two
            ("qa", 1e-4): [(0.96, 0.5), (1.0, 0.8)],
            ("qatool", 1e-4): [(0.96, 0.4)],  # .5
            ("qa", 1e-5): [(0.96, 0.1)],
            ("qatool", 1e-5): [(0.9, 0.1)],  # has not learned
        },
    )
    assert choice(grid) == "training.optimizer.learning_rate=0.0001"
    table = forgetting_table(grid)
    assert table is not None and "training.optimizer.learning_rate=0.0001." in table.caption
    assert [row[1:3] for row in table.rows[:2]] == [("10", "0.600"), ("5", "0.100")]
    assert table.rows[-1][1:3] == ("-", "-") and table.rows[-1][4] == "0.100"


def test_no_setting_is_chosen_that_one_way_fails_in(tmp_path: Path) -> None:
    grid = swept(tmp_path, {("qa", 1e-3): [(0.99, 0.1)], ("qatool", 1e-3): [(0.5, 0.1)]})
    assert choice(grid) == "none, of 2 settings"


def test_forgetting_by_number_of_people(tmp_path: Path) -> None:
    runs = [
        ({KIND: kind, "data.n_people": n_people, "training.seed": 0}, [(0.96, variation)])
        for kind in ("qa", "qatool")
        for n_people, variation in ((2, 0.1), (4, 0.2))
    ]
    grid = grid_of(tmp_path, runs)
    assert choice(grid) is None
    pictures = forgetting_blocks(grid)
    assert [picture.name for picture in pictures] == [  # type: ignore[union-attr]
        "total_variation_base_at_equal_recall",
        "text_loss_change_nats_at_equal_recall",
    ]
    assert "in-tool ends at 0.200" in pictures[0].alt  # type: ignore[union-attr]

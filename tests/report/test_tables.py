"""Tables and their cells."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from report_runs import write_rows, write_run
from rich.console import Console

from nanollama.errors import UserError
from nanollama.measures import BELOW_ZERO, say_all, say_measures, show_measure, show_number, spell
from nanollama.monitor.files import write_csv
from nanollama.report.runs import read_runs
from nanollama.report.tables import Table, measures_table, results_table, seeds_table, speed_table
from nanollama.statistics import Interval, seeds_interval

TABLE = Table("Caption.", ("name", "value"), (("a|b", "1"), ("[bold]c", "22,000")))


def test_all_measures_have_their_interval_beside_them() -> None:
    measures = {"loss_nats": 0.4471, "loss_nats_low": 0.4318, "loss_nats_high": 0.4624, "unigram_nats": 1.227}
    assert say_all({**measures, "test/loss": 1.0, "n_low": 3, "gap_nats": float("nan")}) == [
        "loss (nats)     0.447 [0.432, 0.462]",
        "unigram (nats)  1.227",
        "n low           3",
        "gap (nats)      -",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (39788, "39,788"),
        (0.123456, "0.1235"),
        (1234.5, "1,234"),
        (2.5e10, "2.5e+10"),
        (None, "-"),
        (float("nan"), "-"),
        (True, "-"),
        ("text", "-"),
    ],
)
def test_numbers_are_short(value: object, text: str) -> None:
    assert show_number(value) == text


def test_units_are_spelled_in_brackets() -> None:
    assert spell("loss_trained_nats") == "loss trained (nats)"
    assert spell("recall_trained") == "recall trained"
    assert spell("valid_calls_unseen") == "valid requests unseen"


def test_ranges_are_spelled_as_ranges() -> None:
    assert spell("kl_nats/positions_16_31") == "kl (nats), positions 16 to 31"
    assert spell("kl_nats/positions_0_0") == "kl (nats), position 0"
    assert spell("recall/lengths_2_3") == "recall, lengths 2 to 3"
    assert spell("test/layer_0/entropy_bits/length_5") == "test/layer 0/entropy bits/length 5"
    assert spell("test/layer_0_1") == "test/layer 0 1", "two numbers are no range"


def test_markdown_is_aligned_and_escaped() -> None:
    assert TABLE.to_markdown().splitlines() == [
        "| name    |  value |",
        "| ------- | -----: |",
        "| a\\|b    |      1 |",
        "| [bold]c | 22,000 |",
    ]


def test_csv_is_read_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", TABLE.columns, TABLE.rows)
    rows = list(csv.reader((tmp_path / "table.csv").read_text().splitlines()))
    assert rows == [list(TABLE.columns), *map(list, TABLE.rows)]


def test_tables_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"table\.csv cannot be written: (File exists|Not a directory);"):
        write_csv(tmp_path / "file" / "table.csv", TABLE.columns, TABLE.rows)
    write_csv(tmp_path / "new" / "table.csv", TABLE.columns, TABLE.rows)


def test_the_terminal_shows_brackets_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(TABLE.to_rich())
    assert "[bold]c" in console.file.getvalue()  # type: ignore[attr-defined]


def test_results_hold_measures_with_their_intervals(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "one", recall=0.9), write_run(tmp_path / "two", finished=False)]
    table = results_table(read_runs(folders))
    assert table.columns[-2:] == ("training loss (nats)", "recall trained")
    assert table.rows == (
        ("one", "finished", "100", "39,788", "50", "1", "0.900 [0.850, 0.950]"),
        ("two", "unfinished", "100", "-", "50", "1", "0.750 [0.700, 0.800]"),
    )
    assert "95 % confidence intervals" in table.caption


def test_a_run_that_learned_on_says_at_which_step_its_measures_were_taken(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "status": "preempted", "step": 130}))
    table = results_table(read_runs([run]))
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert (cells["status"], cells["steps"], cells["evaluated at"]) == ("stopped", "130", "100")


def test_negative_bits_are_explained() -> None:
    assert show_measure({"bits_per_parameter": -0.25}, "bits_per_parameter") == f"-0.25 ({BELOW_ZERO})"
    assert show_measure({"bits_per_parameter": 0.25}, "bits_per_parameter") == "0.25"
    assert show_measure({"gain": -0.25}, "gain") == "-0.25"


def test_the_headlines_of_an_evaluation_are_a_line_each() -> None:
    row = {
        "step": 5,
        **{f"recall_new_names{end}": value for end, value in (("", 0.45), ("_low", 0.34), ("_high", 0.57))},
        "recall_new_names_job": 0.4,
        **{f"recall_trained{end}": value for end, value in (("", 1.0), ("_low", 0.9), ("_high", 1.0))},
        "loss_trained_nats": 0.1,
        "loss_trained_nats/last": 0.1,
        "n_prompts": 8,
        "unknown": float("nan"),
    }
    assert say_measures(row) == [
        "recall new names     0.450 [0.340, 0.570]",
        "recall trained       1.000 [0.900, 1.000]",
        "loss trained (nats)  0.1",
    ]


def test_of_measures_without_intervals_the_first_are_said_and_the_others_counted() -> None:
    row = {f"m{number}": number / 8 for number in range(4)} | {"m0/detail": 1.0}
    assert say_measures(row, n_most=3) == ["m0  0", "m1  0.125", "m2  0.25", "and 1 more"]
    assert say_measures({"a/b": 2.0}) == ["a/b  2"]
    assert say_measures({}) == []


def test_all_measures_are_listed_without_their_bounds_as_rows(tmp_path: Path) -> None:
    table = measures_table(read_runs([write_run(tmp_path / "one", recall=0.5)]))
    assert table is not None
    assert table.rows == (
        ("recall trained", "0.500 [0.450, 0.550]"),
        ("recall trained job", "0.250 [0.000, 1.000]"),
        ("loss trained (nats)", "0.5"),
        ("n prompts trained", "400"),
    )


def test_means_over_seeds(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"run_{seed}", seed=seed, recall=recall)
        for seed, recall in enumerate((0.5, 0.6, 0.7))
    ]
    table = seeds_table(read_runs(folders))
    assert table is not None
    own = [Interval(recall, recall - 0.05, recall + 0.05, 1) for recall in (0.5, 0.6, 0.7)]
    low, high = seeds_interval(own)[1:3]
    assert table.rows == (("run_0", "3", f"0.600 [{low:.3f}, {high:.3f}]"),)


def test_two_runs_of_one_seed_are_one_value(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"run_{number}", seed=seed, recall=recall)
        for number, (seed, recall) in enumerate(((0, 0.5), (0, 0.7), (1, 0.8)))
    ]
    table = seeds_table(read_runs(folders))
    assert table is not None
    assert table.rows == (("run_0", "2", "0.700 [0.000, 1.000]"),)
    assert seeds_table(read_runs(folders[:2])) is None


def test_means_are_over_finished_runs_that_have_the_measure(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"run_{seed}", seed=seed, recall=0.5) for seed in range(2)]
    folders.append(write_run(tmp_path / "stopped", seed=2, recall=0.1, finished=False))
    table = seeds_table(read_runs(folders))
    assert table is not None and table.rows == (("run_0", "2", "0.500 [0.450, 0.550]"),)
    folders.append(write_run(tmp_path / "unmeasured", seed=3))
    (folders[-1] / "evals.jsonl").unlink()
    table = seeds_table(read_runs(folders))
    assert table is not None and table.rows == (("run_0", "3", "-"),)


def test_without_repetitions_there_is_no_table_of_seeds(tmp_path: Path) -> None:
    assert seeds_table(read_runs([write_run(tmp_path / "one")])) is None


def test_speed_is_a_median_a_peak_and_shares_of_the_seconds(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[3]["peak_memory_mib"] = 900.25  # then it was stopped, and the next process held less
    write_rows(folder / "metrics.jsonl", rows)
    table = speed_table(read_runs([folder]))
    assert table is not None
    assert table.columns[-2:] == ("data", "forward backward")
    assert table.rows == (("one", "1,055", "100", "2e+09", "900.2", "25%", "75%"),)


def test_runs_without_rows_have_no_tables_of_speed_or_measures(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    (folder / "metrics.jsonl").unlink()
    (folder / "evals.jsonl").unlink()
    runs = read_runs([folder])
    assert speed_table(runs) is None
    assert measures_table(runs) is None
    assert results_table(runs).rows == (("one", "finished", "100", "39,788", "50", "-"),)


def test_a_table_is_turned_where_only_that_fits() -> None:
    table = Table("x", ("setting", *(f"measure {n}" for n in range(9))), (("a", *"123456789"),))
    assert table.fitting(120) == table
    turned = table.fitting(40)
    assert turned.columns == ("setting", "a")
    assert turned.rows[0] == ("measure 0", "1") and len(turned.rows) == 9
    assert turned.turned() == table
    assert table.fitting(5) == table, "neither fits"


def test_cells_are_split_before_they_are_cut() -> None:
    """As it is, turned, as it is with cells on two lines, turned with cells on two lines: what fits first."""
    intervals = ["2.008 [1.951, 2.065]"] * 4
    table = Table(
        "x", ("setting", *["measure (nats)"] * 4), tuple((f"arm=number_{n}", *intervals) for n in (1, 2))
    )
    assert table.fitting(102) == table and table.fitting(64).columns == (
        "setting",
        "arm=number_1",
        "arm=number_2",
    )
    assert table.fitting(56) == table, "each cell on two lines"
    wide = Table("x", ("setting", *["measures"] * 9), (("arm=number_1", *intervals, *intervals, "1"),))
    console = Console(width=40, record=True, file=io.StringIO())
    console.print(wide.fitting(40).to_rich())
    assert console.export_text().count("arm=number_1") == 1
    console.print(wide.to_rich())
    assert "…" not in console.export_text(), "nothing is left out, even where no way fits"

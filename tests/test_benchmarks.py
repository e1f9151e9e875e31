"""The runner of benchmarks; what they measure is not for tests."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as runner
from benchmarks import turns
from benchmarks.machine_speed import gigaflops
from benchmarks.row import Row
from benchmarks.turns import Contestant, Effort, Pair, Ring, Timing
from tests.toy_contestants import failing, noted, waiting

NOBODY = Contestant("nobody", lambda: lambda number: 1.0)
PAIR = Pair("dialogs", "dialogs/s", NOBODY, NOBODY, aim=2.0)
MEASURED = Row(PAIR, Timing([30.0, 10.0, 20.0], [10.0, 5.0, 5.0], 700.0, 900.0))
ONCE, THRICE = Effort(0.0, 1, 1), Effort(0.0, 2, 3)
OVER, FAR = 0.0, float("inf")


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring(end=FAR)
    yield ring
    ring.close()


def test_a_row_has_medians_over_turns_and_the_range_of_their_ratios() -> None:
    row = MEASURED.to_json()
    assert (row["ours"], row["other"], row["unit"], row["aim"]) == (20.0, 5.0, "dialogs/s", 2.0)
    assert (row["ratio"], row["ratio_min"], row["ratio_max"], row["n_turns"]) == (3.0, 2.0, 4.0, 3)


def test_a_row_that_could_not_be_measured_says_why() -> None:
    row = Row(PAIR, "no time").to_json()
    assert row["not_measured"] == "no time"
    assert "ratio" not in row
    assert "not measured: no time" in runner.to_table([{"benchmark": "x", **row}]).rows[0]


def test_the_table_shows_both_sides_with_their_unit_and_the_aim() -> None:
    assert runner.to_table([{"benchmark": "x", **MEASURED.to_json()}]).rows == (
        ("x: dialogs: nobody", "20 dialogs/s", "5 dialogs/s", "nobody", "3.00 (2.00-4.00)", "2.0"),
    )


def test_rows_of_other_benchmarks_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results.json")
    runner.merge("b", [{"benchmark": "b", "ratio": 1.0}, {"benchmark": "b", "ratio": 2.0}])
    runner.merge("a", [{"benchmark": "a", "ratio": 3.0}])
    runner.merge("b", [{"benchmark": "b", "ratio": 4.0}])
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(row["benchmark"], row["ratio"]) for row in results] == [("a", 3.0), ("b", 4.0)]


@pytest.mark.parametrize("name", runner.names())
def test_every_benchmark_has_pairs_and_a_budget(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}_speed")
    assert callable(module.pairs)
    assert module.BUDGET_SECONDS > 0


def test_all_benchmarks_together_leave_time_for_one_that_is_late() -> None:
    modules = [importlib.import_module(f"benchmarks.{name}_speed") for name in runner.names()]
    assert sum(module.BUDGET_SECONDS for module in modules) <= 24 * 60, "of 25 minutes"


def test_a_machine_that_multiplies_slowly_gets_small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def multiply(one: torch.Tensor, other: torch.Tensor) -> None:
        sizes.append(len(one))

    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr("benchmarks.machine_speed.MAX_SECONDS", -1.0)
    gigaflops(torch.bfloat16, n_times=2)
    assert set(sizes) == {256}


def pair_of(folder: Path, *names: str, n_warm: int = 1) -> list[Contestant]:
    return [Contestant(name, partial(noted, folder, name), n_warm) for name in names]


def test_two_take_turns_after_warming_up_one_after_the_other(tmp_path: Path, ring: Ring) -> None:
    timing = ring.compare(Pair("x", "steps/s", *pair_of(tmp_path, "a", "b", n_warm=2)), THRICE, FAR)
    assert isinstance(timing, Timing)
    assert (tmp_path / "steps").read_text() == "a0 a1 b0 b1 a2 b2 a3 b3 a4 b4 "
    assert len(timing.ours) == len(timing.other) == 3
    assert timing.ours_peak_mib > 1


def test_there_are_no_more_turns_than_there_is_time_for(tmp_path: Path, ring: Ring) -> None:
    timing = ring.compare(Pair("x", "steps/s", *pair_of(tmp_path, "a", "b")), THRICE, OVER)
    assert isinstance(timing, Timing)
    assert len(timing.ours) == THRICE.min_turns


def test_a_turn_is_as_many_steps_as_it_has_time_for(tmp_path: Path, ring: Ring) -> None:
    makers = (partial(noted, tmp_path, name, seconds) for name, seconds in (("a", 0.3), ("b", 0.05)))
    contestants = [Contestant(str(maker.args[1]), maker, 0) for maker in makers]
    timing = ring.compare(Pair("x", "steps/s", *contestants), Effort(0.2, 1, 1), FAR)
    assert isinstance(timing, Timing)
    steps = (tmp_path / "steps").read_text().split()
    assert [step for step in steps if step[0] == "a"] == ["a0"], "one that takes longer is let finish"
    assert len(steps) > 2
    assert timing.ours[0] <= 3.0 / 0.3, "three pieces of work in at least 0.3 s"


def test_who_is_not_in_the_next_pair_is_ended_before_it_starts(tmp_path: Path, ring: Ring) -> None:
    ours, one, other = pair_of(tmp_path, "a", "b", "c")
    for opponent in (one, other):
        assert isinstance(ring.compare(Pair("x", "steps/s", ours, opponent), ONCE, OVER), Timing)
    assert len((tmp_path / "pids").read_text().split()) == 3, "ours stays"


@pytest.mark.parametrize(
    ("how", "reason"),
    [("raise", "'bad' failed: ValueError: no such step"), ("kill", "'bad' ended with exit code -9.")],
)
def test_who_fails_is_named_and_the_next_pair_is_measured(
    how: str, reason: str, tmp_path: Path, ring: Ring, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, other = pair_of(tmp_path, "a", "b")
    assert (
        ring.compare(Pair("x", "steps/s", ours, Contestant("bad", partial(failing, how))), ONCE, OVER)
        == reason
    )
    assert isinstance(ring.compare(Pair("x", "steps/s", ours, other), ONCE, OVER), Timing)
    assert ("no such step" in capfd.readouterr().err) == (how == "raise")


def is_running(pid: int) -> bool:
    """A dead process that nobody has waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_who_never_answers_is_ended_with_its_commands(
    tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Contestant("endless", partial(waiting, tmp_path), n_warm=0)
    answer, started = turns._Seat.answer, list[turns._Seat]()

    def impatient(seat: turns._Seat, limit_seconds: float) -> tuple[float, float]:
        if seat not in started:
            started.append(seat)
            return answer(seat, limit_seconds)  # in peace
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):  # made, then written
            time.sleep(0.01)
        return answer(seat, 0.0)

    monkeypatch.setattr(turns._Seat, "answer", impatient)
    reason = ring.compare(Pair("x", "steps/s", ours, ours), ONCE, OVER)
    assert reason == "'endless' gave no answer in 0 s."
    pid = int((tmp_path / "pid").read_text())
    for _ in range(1000):
        if not is_running(pid):
            break
        time.sleep(0.01)
    assert not is_running(pid)


def test_nobody_is_waited_for_after_the_end(tmp_path: Path) -> None:
    ring = Ring(end=OVER)
    try:
        reason = ring.compare(Pair("x", "steps/s", *pair_of(tmp_path, "a", "b")), ONCE, OVER)
    finally:
        ring.close()
    assert reason == "'a' gave no answer in 0 s."


def test_a_second_turn_that_would_come_too_late_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Ring(end=80.0)
    clock = itertools.count(10.0, 10.0)  # read twice before the first turn and four times in it: 30 to 60
    monkeypatch.setattr(turns, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    try:
        timing = ring.compare(Pair("x", "steps/s", *pair_of(tmp_path, "a", "b")), THRICE, OVER)
    finally:
        ring.close()
    assert isinstance(timing, Timing)
    assert len(timing.ours) == 1 < THRICE.min_turns


def run_fake(
    monkeypatch: pytest.MonkeyPatch,
    results: Path,
    pairs: list[Pair],
    budget_seconds: float = 60.0,
    also: tuple[str, ...] = (),
) -> tuple[int, list[dict[str, object]]]:
    """Run these pairs as a benchmark, after others; the exit code and the rows that are written."""
    module = types.ModuleType("benchmarks.fake_speed")
    vars(module).update(BUDGET_SECONDS=budget_seconds, pairs=lambda folder, quick: pairs)
    monkeypatch.setitem(sys.modules, "benchmarks.fake_speed", module)
    monkeypatch.setattr(runner, "names", lambda: [*also, "fake"])
    monkeypatch.setattr(runner, "RESULTS", results)
    monkeypatch.setattr(runner, "FULL", ONCE)
    monkeypatch.setattr(runner, "gigaflops", lambda dtype: 1.0)
    return runner.main([]), json.loads(results.read_text())


def test_each_row_is_written_with_the_moment_it_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, one, other = pair_of(tmp_path, "a", "b", "c")
    pairs = [Pair("x", "steps/s", ours, one), Pair("y", "steps/s", ours, other, not_here="no GPU")]
    code, rows = run_fake(monkeypatch, tmp_path / "results.json", pairs)
    assert code == 0, "what a machine is not made for is no failure"
    assert [row["setting"] for row in rows] == ["x", "y"]
    assert rows[1]["not_measured"] == "no GPU"
    keys = ("ratio", "gflops_float32", "gflops_bfloat16", "n_threads", "commit", "date")
    assert all(key in rows[0] for key in keys)


def test_a_failed_row_is_written_and_so_are_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = pair_of(tmp_path, "a", "b")
    bad = Contestant("bad", partial(failing, "kill"))
    pairs = [Pair("x", "steps/s", ours, bad), Pair("y", "steps/s", ours, other)]
    code, rows = run_fake(monkeypatch, tmp_path / "results.json", pairs)
    assert code == 1
    assert rows[0]["not_measured"] == "'bad' ended with exit code -9."
    assert "ratio" in rows[1]


def test_what_there_is_no_time_left_for_is_written_as_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [Pair("x", "steps/s", *pair_of(tmp_path, "a", "b"))]
    code, rows = run_fake(monkeypatch, tmp_path / "results.json", pairs, budget_seconds=-1.0)
    assert code == 1
    assert rows[0]["not_measured"] == "The -1 s of this benchmark are over."


def test_what_could_not_be_prepared_is_written_and_so_are_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("benchmarks.broken_speed")
    vars(module).update(BUDGET_SECONDS=60.0, pairs=lambda folder, quick: {}["no such key"])
    monkeypatch.setitem(sys.modules, "benchmarks.broken_speed", module)
    pairs = [Pair("x", "steps/s", *pair_of(tmp_path, "a", "b"))]
    code, rows = run_fake(monkeypatch, tmp_path / "results.json", pairs, also=("broken",))
    assert code == 1
    assert rows[0]["not_measured"] == "The preparation failed: 'no such key'"
    assert "ratio" in rows[1]
    assert "KeyError" in capsys.readouterr().err


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        runner.main(["none"])
    assert exit_info.value.code == 2
    assert "no benchmark none; there are" in capsys.readouterr().err

"""Two processes that share a model out (FSDP2) learn what one learns; each goes on from the other's runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanollama.errors import EXIT_PREEMPTED
from tests import toy_packed, toy_training
from tests.forked import in_two_processes
from tests.toy_training import newest, rows, run_toy, toy_config

SETTINGS = ('parallel="sharded"', "eval_every=4", 'checkpoint={"every": 4, "keep": null}')

pytestmark = pytest.mark.slow


def shared_out(folder: Path, *settings: str) -> list[int | None]:
    """Train the toy in two processes; their exit codes."""
    return in_two_processes(toy_training.main, [str(folder), *SETTINGS, *settings])


def alone(folder: Path) -> Path:
    """The same training in this process, going on where the folder's run stopped."""
    run_toy(toy_config(folder, parallel="sharded", eval_every=4, checkpoint={"every": 4, "keep": None}))
    return folder


def assert_same(one: Path, other: Path) -> None:
    """Losses, gradient norms, evaluations and weights agree to 1e-5."""
    for name, columns in (("metrics.jsonl", ("loss", "grad_norm")), ("evals.jsonl", ("weight_norm",))):
        assert [row["step"] for row in rows(one, name)] == [row["step"] for row in rows(other, name)]
        for column in columns:
            expected = [row[column] for row in rows(one, name)]
            assert [row[column] for row in rows(other, name)] == pytest.approx(expected, rel=1e-5)
    optimizers = [
        torch.load(newest(folder) / "optimizer.pt", weights_only=True)["state"] for folder in (one, other)
    ]
    for index, slot in optimizers[0].items():
        for name, value in slot.items():
            torch.testing.assert_close(optimizers[1][index][name], value, rtol=1e-3, atol=1e-6)


def test_two_processes_learn_what_one_learns_and_resume_each_others_runs(tmp_path: Path) -> None:
    expected = alone(tmp_path / "one")
    assert shared_out(tmp_path / "two") == [0, 0]
    assert_same(expected, tmp_path / "two")
    for name, resume in (("to_two", shared_out), ("to_one", alone)):
        stopped = shared_out(tmp_path / name, "max_minutes=1e-9")  # after its first step
        assert stopped == [EXIT_PREEMPTED, EXIT_PREEMPTED]
        assert newest(tmp_path / name).name == "step_00000001"
        resume(tmp_path / name)
        assert_same(expected, tmp_path / name)


def test_what_one_process_began_two_go_on_with(tmp_path: Path) -> None:
    expected = alone(tmp_path / "one")
    assert shared_out(tmp_path / "two") == [0, 0]
    for step in (8, 12):
        (tmp_path / f"one/checkpoints/step_{step:08d}/manifest.json").unlink()  # as if stopped at step 4
    (tmp_path / "one/result.json").unlink()
    assert shared_out(tmp_path / "one") == [0, 0]
    assert_same(tmp_path / "two", expected)


def test_processes_with_unequal_rows_gather_the_model_as_often(tmp_path: Path) -> None:
    toy_packed.main(tmp_path / "one")
    assert in_two_processes(toy_packed.main, tmp_path / "two") == [0, 0]
    assert_same(tmp_path / "one", tmp_path / "two")

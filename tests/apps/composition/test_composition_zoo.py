"""Every sequence model does the study's work by one key: it trains, goes on, is examined and reported."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from apps.composition import eval, train
from nanollama.report import command as report_command
from tests.toy_training import check_that_a_stopped_run_ends_alike, rows

CONFIGS = Path(__file__).parents[3] / "apps" / "composition" / "config"
ZOO = ["mamba2", "hawk", "mingru", "minlstm", "[mamba2, transformer]"]
SMALL = [
    "run_dir=run",
    "data.max_length=3",
    "data.n_train=6",
    "data.n_test=4",
    "training.n_steps=6",
    "training.batch_size=8",
    "training.eval_every=3",
    "training.checkpoint={every: 2, keep: null}",
    "training.device=cpu",
]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ZOO)
def test_it_goes_on_with_the_same_bits_and_is_reported(
    implementation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report_command, "FORMATS", (".svg",))
    arguments = [str(CONFIGS / "debug.yaml"), f"model.implementation={implementation}", *SMALL]
    check_that_a_stopped_run_ends_alike(partial(train.main, arguments))
    assert "test_accuracy" in rows(Path("run"), "evals.jsonl")[-1]
    report_command.run(["run"])
    assert "test accuracy" in Path("run/report.html").read_text()


@pytest.mark.slow
def test_a_stack_without_attention_is_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([str(CONFIGS / "debug.yaml"), "model.implementation=mingru", *SMALL]) == 0
    assert eval.main([str(CONFIGS / "eval.yaml"), "run=run"]) == 0
    assert "wrote run/eval" in capsys.readouterr().out

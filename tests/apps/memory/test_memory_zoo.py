"""Every sequence model does the study's work by one key: it trains, decodes, goes on, is reported."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from apps.memory import train
from apps.memory.settings import MemoryConfig
from nanollama.config import load_config
from nanollama.report import command as report_command
from tests.toy_training import check_that_a_stopped_run_ends_alike, rows

DEBUG = Path(__file__).parents[3] / "apps" / "memory" / "config" / "debug.yaml"
ZOO = ["mamba2", "hawk", "mingru", "minlstm", "[mamba2, transformer]"]
SMALL = [
    "run_dir=run",
    "data_root=data",
    "data.n_people=2",
    "data.sources=[{kind: qatool}]",
    "training.n_steps=6",
    "training.batch_size=8",
    "training.optimizer.warmup_steps=2",
    "training.eval_every=3",
    "training.checkpoint={every: 2, keep: null}",
    "training.device=cpu",
    "recall={n_people: 2, sets: [trained], max_new_tokens: 170}",
]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ZOO)
def test_it_goes_on_with_the_same_bits_and_is_reported(
    implementation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(MemoryConfig, [str(DEBUG), f"model.implementation={implementation}", *SMALL])
    monkeypatch.setattr(report_command, "FORMATS", (".svg",))
    check_that_a_stopped_run_ends_alike(partial(train.run, config))
    assert "tool_use_trained" in rows(Path("run"), "evals.jsonl")[-1]
    report_command.run(["run"])
    assert "recall trained" in Path("run/report.html").read_text()

"""A run of the memory study that unties its embeddings midway is trained, stopped, and used as any other."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from apps.memory import chat, eval, train
from apps.memory.settings import MemoryConfig
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.report.command import run as report
from nanollama.training.trained import load_run
from tests.toy_training import same_end

DEBUG = Path(train.__file__).parent / "config" / "debug.yaml"
KEYS = [
    "model.tied_embeddings=true",
    "interventions=[{implementation: untie, at_step: 3}]",
    "training.n_steps=6",
    "training.batch_size=8",
    "training.log_every=1",
    "training.eval_every=3",
    "training.device=cpu",
    "training.checkpoint={every: 1, keep: null}",
    "training.optimizer.warmup_steps=0",
    "recall.n_people=2",
]


@pytest.mark.slow
def test_the_debug_run_untied_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([str(DEBUG), *KEYS, "run_dir=whole"]) == 0
    assert train.main([str(DEBUG), *KEYS, "run_dir=cut", "training.max_minutes=1e-9"]) == 75
    assert train.main([str(DEBUG), *KEYS, "run_dir=cut"]) == 0
    assert same_end(Path("whole"), Path("cut"))

    checkpoints = Checkpointer(Path("whole/checkpoints"))
    for step, is_tied in ((3, True), (4, False), (6, False)):
        trained = load_run(MemoryConfig, checkpoints.path(step))
        first, second = trained.model.embedding.weight, trained.model.head.weight
        assert (first is second, torch.equal(first, second)) == (is_tied, is_tied)
    assert load_run(MemoryConfig, Path("whole")).model.n_params() == trained.model.n_params()

    Path("eval.yaml").write_text("study: memory\nrun: whole\ndevice: cpu\nrecall: {n_people: 2}\n")
    assert eval.main(["eval.yaml"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert chat.main(["whole"]) == 0
    report(["whole"])

    load = "interventions=[{implementation: load, run: whole}]"
    again = [str(DEBUG), *KEYS, load, "run_dir=again"]
    assert train.main([*again, "model.tied_embeddings=false"]) == 0
    assert train.main([*again, "overwrite=true"]) == 2

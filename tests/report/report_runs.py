"""Hand-made run folders, as a training run leaves them, for tests of reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nanollama.monitor.run_folder import DIALOGS
from nanollama.report.runs import SampleDialog, write_samples
from nanollama.tokenizer import Message

EVIL = "<script>alert(1)</script> & \"'</pre></style>"


def write_run(
    folder: Path,
    *,
    seed: int = 0,
    recall: float = 0.75,
    d_model: int = 32,
    dialogs: Iterable[SampleDialog] = (),
    finished: bool = True,
) -> Path:
    """A run of 100 steps with two evaluations, whose last recall is given."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"study: memory\nname: {folder.name}\nmodel:\n  d_model: {d_model}\ntraining:\n  seed: {seed}\n"
    )
    (folder / "environment.json").write_text(json.dumps({"commit": "abc123", "diff": EVIL}))
    write_rows(folder / "metrics.jsonl", [_metrics_row(step) for step in range(10, 101, 10)])
    write_rows(folder / "evals.jsonl", [_evals_row(50, recall / 2), _evals_row(100, recall)])
    if finished:
        result = {"status": "finished", "step": 100, "seconds": 50.0, "n_params": 39788}
        (folder / "result.json").write_text(json.dumps(result))
    if dialogs:
        write_samples(folder / DIALOGS, list(dialogs))
    return folder


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sample_dialog(*, is_right: bool = True, answer: str = "Chile") -> SampleDialog:
    """A dialog with a request and a reply."""
    messages = (
        Message("user", "Where was Ann Bell born?"),
        Message("assistant", "Let me look.\n```\nFIND birth_place FOR Ann Bell\n```"),
        Message("database", "Chile"),
        Message("assistant", f"Ann Bell was born in {answer}."),
    )
    return SampleDialog("unseen, birth place", "Chile", is_right, messages)


def _metrics_row(step: int) -> dict[str, float]:
    return {
        "step": step,
        "loss": 100 / step,
        "tokens_per_second": 1000.0 + step,
        "examples_per_second": 100.0,
        "elapsed_seconds": step / 2,
        "flops_per_second": 2_000_000_000,
        "peak_memory_mib": 300.5,
        "data_seconds": 1.0,
        "forward_backward_seconds": 3.0,
    }


def _evals_row(step: int, recall: float) -> dict[str, float]:
    return {
        "step": step,
        "recall_trained": recall,
        "recall_trained_low": recall - 0.05,
        "recall_trained_high": recall + 0.05,
        "recall_trained_job": recall / 2,
        "recall_trained_job_low": 0.0,
        "recall_trained_job_high": 1.0,
        "loss_trained_nats": 1 - recall,
        "n_prompts_trained": 400,
    }

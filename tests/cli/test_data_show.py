"""``nanollama data show``: any study's first batch, what is read above what is to be predicted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanollama.cli.command import main as nanollama
from nanollama.cli.show import batch_lines
from nanollama.data.batch import IGNORE, Batch

ROOT = Path(__file__).parents[2]
IDS = torch.tensor([[1, 22, 3, 0], [4, 5, 6, 7]])


def test_each_token_stands_above_what_is_to_be_predicted_there() -> None:
    targets = torch.tensor([[22, 3, IGNORE, IGNORE], [IGNORE, 6, 7, 8]])
    lines = batch_lines(Batch(IDS, targets, None, None, 5, 7, 2), str, 80)
    assert lines[:6] == [
        "row 0",
        "read     1 22",
        "predict 22  3",
        "row 1",
        "read    4 5 6 7",
        "predict . 6 7 8",
    ]
    assert lines[6:] == [
        "2 of the batch's 2 rows",
        "2 x 4 inputs: 7 tokens, 12.5% padding",
        "5 of them carry loss",
    ]


def test_queries_among_the_tokens_and_long_rows_in_several_lines() -> None:
    queries, targets = torch.tensor([[2], [0]]), torch.tensor([[3], [9]])
    batch = Batch(IDS, targets, queries, None, 2, 8, 2, sees_all=True)
    lines = batch_lines(batch, lambda token: f"<{token}\x1b\n>", 22)
    assert lines[1:5] == [
        "read    <1\ufffd\\n> <22\ufffd\\n>",
        "predict      .       .",
        "read    <3\ufffd\\n> <0\ufffd\\n>",
        "predict <3\ufffd\\n>      .",
    ]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("composition/config/debug.yaml", "<input ends>"),
        ("gssm/config/debug.yaml", "predict"),
    ],
)
def test_any_study(
    config: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert nanollama(["data", "show", f"apps/{config}", "training.batch_size=8"]) == 0
    out = capsys.readouterr().out
    assert said in out and "carry loss" in out
    assert nanollama(["data", "show", f"apps/{config}", "training.batchsize=8"]) == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err

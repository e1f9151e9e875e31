"""Associative recall: sequences as described, each drawn alone, none in both sets; what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from apps.gssm import eval as evaluation
from apps.gssm import train
from apps.gssm.associative import RecallExaminer, RecallStream, draw
from apps.gssm.data_config import FIRST_TEST
from apps.gssm.grid_sections import grid_sections
from apps.gssm.recall_config import RecallDataConfig
from nanollama.launcher.grid.outcome import judge_grid
from nanollama.launcher.plan import read_grid
from nanollama.report.page import Picture
from nanollama.report.tables import Table
from nanollama.training.loss import next_token_loss
from tests.toy_training import rows, same_end

CONFIG = Path(__file__).parents[3] / "apps" / "gssm" / "config" / "recall.yaml"


def config(**changes: Any) -> RecallDataConfig:
    keys = {"n_pairs": 4, "n_queries": 2, "vocab_size": 13, "seq_len": 14}
    return RecallDataConfig.model_validate({"implementation": "recall", **keys, **changes})


class Reader(nn.Module):
    """Looks each query up in the pairs; wrong about the key 1."""

    device = torch.device("cpu")

    def forward(self, ids: Tensor, query_positions: Tensor, documents: None = None) -> Tensor:
        keys, values = ids[:, :8:2], ids[:, 1:8:2]
        asked = ids.gather(1, query_positions)
        answers = ((asked[:, :, None] == keys[:, None]) * values[:, None]).sum(-1)
        return nn.functional.one_hot(answers * (asked != 1), 13).float() * 50


@pytest.mark.parametrize("first", [0, FIRST_TEST])
def test_sequences_are_as_described(first: int) -> None:
    tokens, positions, answers = draw(config(), range(first, first + 500))
    assert tokens.shape == (500, 14) and positions.shape == answers.shape == (500, 2)
    keys, values = tokens[:, :8:2], tokens[:, 1:8:2]
    assert set(keys.ravel()) == set(range(1, 7)) and set(values.ravel()) == set(range(7, 13))
    assert (np.sort(keys)[:, 1:] != np.sort(keys)[:, :-1]).all(), "keys of a sequence differ"
    assert set(positions.ravel()) == set(range(8, 14)) and (positions[:, 0] < positions[:, 1]).all()
    for row, places, expected in zip(tokens, positions, answers, strict=True):
        lookup = dict(zip(row[:8:2], row[1:8:2], strict=True))
        assert [lookup[key] for key in row[places]] == list(expected)
        assert len(set(row[places])) == 2 and np.count_nonzero(row[8:]) == 2


def test_no_sequence_is_in_both_sets() -> None:
    """Also where there are few: 4 pairs of 4 keys and 4 values."""
    few = config(vocab_size=9)
    parity = {first: draw(few, range(first, first + 999)).tokens[:, :8].sum(axis=1) % 2
              for first in (0, FIRST_TEST)}  # fmt: skip
    assert not parity[0].any() and parity[FIRST_TEST].all()


@pytest.mark.parametrize("vocab_size", [11, 13])  # an odd and an even number of values
def test_the_last_value_is_as_often_each_of_those_it_can_be(vocab_size: int) -> None:
    n_keys = (vocab_size - 1) // 2
    tokens = draw(config(vocab_size=vocab_size), range(20_000)).tokens
    for place in (1, 3, 5, 7):
        shares = np.bincount(tokens[:, place])[1 + n_keys :] / len(tokens)
        assert shares == pytest.approx([1 / n_keys] * n_keys, abs=0.06 if place == 7 else 0.015)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_one_batch_and_draw_their_own_rows(world_size: int) -> None:
    stream = RecallStream(config(), batch_size=8)
    whole = stream.batch(5).input_ids
    for rank in range(world_size):
        torch.testing.assert_close(stream.batch(5, rank, world_size).input_ids, whole[rank::world_size])
    assert not torch.equal(stream.batch(6).input_ids, whole)
    assert not torch.equal(RecallStream(config(sequence_seed=1), 8).batch(5).input_ids, whole)


def test_recall_is_the_share_of_right_answers() -> None:
    examiner = RecallExaminer(config(), 300)
    asked = np.take_along_axis(examiner.test.tokens, examiner.test.positions, axis=1)
    found = examiner.evaluate(Reader(), step=0)  # type: ignore[arg-type]
    assert found["recall"] == pytest.approx((asked != 1).mean())
    assert found["recall_low"] < found["recall"] < found["recall_high"]
    batch = RecallStream(config(), 64).batch(0)
    right = batch.input_ids.gather(1, batch.query_positions) != 1  # type: ignore[arg-type]
    assert float(next_token_loss(Reader(), batch)) == pytest.approx(50 * float((~right).sum()), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_pairs": 3}, "n_pairs = 3 is too few: .*; expected at least 4"),
        ({"n_pairs": 7}, "n_pairs = 7 different keys need a vocab_size of at least 15, got 13"),
        ({"n_queries": 5}, "n_queries = 5 is more than n_pairs = 4"),
        ({"seq_len": 9}, "seq_len = 9 is too short: pairs and queries take 10 symbols"),
    ],
)
def test_impossible_tasks_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    keys = ["training.n_steps=4", "training.optimizer.warmup_steps=1", "training.eval_every=2"]
    keys += ["training.checkpoint={every: 2, keep: null}", "training.device=cpu", "measures.n_sequences=8"]
    base = tmp_path / "recall.yaml"
    base.write_text(CONFIG.read_text().split("\ngrid:")[0])
    for name in ("whole", "cut"):
        assert train.main([str(base), f"run_dir={tmp_path / name}", *keys]) == 0
    assert "recall_low" in rows(tmp_path / "cut", "evals.jsonl")[-1]
    (tmp_path / "cut" / "result.json").unlink()
    for path in (tmp_path / "cut" / "checkpoints" / "step_00000004").iterdir():
        path.unlink()
    (tmp_path / "cut" / "checkpoints" / "step_00000004").rmdir()
    assert train.main([str(base), f"run_dir={tmp_path / 'cut'}", *keys]) == 0
    assert "Going on from step 2" in (tmp_path / "cut" / "log.txt").read_text()
    assert same_end(tmp_path / "whole", tmp_path / "cut")
    assert evaluation.main(["study=gssm", f"run={tmp_path / 'cut'}"]) == 2, "that is for sources"


def test_a_grid_shows_the_best_rate_of_each_state(tmp_path: Path) -> None:
    plan = read_grid([str(CONFIG), f"run_dir={tmp_path}"])
    at = {("transformer", 16): 1.0, ("mamba2", 2): 0.2, ("mamba2", 8): 0.4, ("mamba2", 32): 0.6}
    results = []
    for run in plan.runs:
        model, rate = run.values["model.implementation"], run.values["training.optimizer.learning_rate"]
        recall = at[model, run.values["model.d_state"]] - 0.1 * (rate != 2e-3)
        ends = {"recall_low": recall - 0.01, "recall_high": recall + 0.01}
        results.append({"run": run.name, "status": "finished", "step": 1000, "recall": recall, **ends})
    grid = judge_grid(plan, results)
    assert [verdict.word for verdict in grid.verdicts] == ["holds"] * 5
    (section,) = grid_sections(grid)
    table, picture = section.blocks
    assert isinstance(table, Table) and isinstance(picture, Picture)
    assert [row[:3] for row in table.rows] == [
        ("mamba2", "664", "0.002"),  # 2 layers of 64 x 2, and 3 tokens of 64 + 2 x 2 before them
        ("mamba2", "1,504", "0.002"),
        ("mamba2", "4,864", "0.002"),
        ("transformer", "12,288", "0.002"),  # keys and values of 48 tokens
    ]
    assert "mamba2 ends at 0.600" in picture.alt

"""`training.deterministic`: only algorithms that give the same bits, while a run is trained and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nanollama.data.batch import Batch
from nanollama.determinism import WORKSPACE, seed_draws
from tests.toy_training import run_toy, toy_config, toy_loss


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_is_trained_so_and_leaves_it_as_it_was(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")  # the user's own
    seen = set()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        seen.add(torch.are_deterministic_algorithms_enabled())
        return toy_loss(model, batch)

    run_toy(toy_config(tmp_path / "run", n_steps=2, deterministic=wanted), loss_fn=loss)
    assert seen == {wanted} and not torch.are_deterministic_algorithms_enabled()


def test_it_is_put_back_where_a_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":4096:8")

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_toy(toy_config(tmp_path / "run", deterministic=True), loss_fn=loss)
    assert not torch.are_deterministic_algorithms_enabled()


def test_draws_on_a_cpu_are_seeded_as_torch_does_and_no_gpu_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", calls.append)
    with torch.random.fork_rng([]):
        seed_draws(2**62 + 5, torch.device("cpu"))
        drawn = torch.rand(3)
        assert not calls
        torch.manual_seed(2**62 + 5)
        assert drawn.equal(torch.rand(3))

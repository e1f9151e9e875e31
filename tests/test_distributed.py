"""Several processes train as one does: same losses, disjoint data, equal weights, one decision to stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nanollama.distributed import World, choose_device, open_world
from nanollama.errors import UserError
from tests.toy_ranks import ranks_config
from tests.toy_training import ToyModel, ToyStream, rows, run_toy, same_end, same_values

TIMEOUT_SECONDS = 500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two ranks have run."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    with subprocess.Popen(
        [*torchrun, "-m", "tests.toy_ranks", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            _, said = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its processes when it is asked to end, not when it is killed
            raise
    assert process.returncode == 0, said
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(folder: Path, tmp_path: Path) -> None:
    model = ToyModel(seed=0)
    run_toy(ranks_config(tmp_path), model=model)
    one, two = rows(tmp_path), rows(folder / "whole")
    assert len(one) == len(two) == 6
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert theirs[key] == pytest.approx(value, rel=1e-5), key
    weights = torch.load(folder / "rank_0.pt", weights_only=True)["weights"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_weights_are_equal_at_the_end(ranks: list[dict[str, Any]]) -> None:
    assert [rank["whole"] for rank in ranks] == ["finished", "finished"]
    assert same_values(ranks[0]["weights"], ranks[1]["weights"])


@pytest.mark.slow
def test_data_are_disjoint_and_together_those_of_one_process(ranks: list[dict[str, Any]]) -> None:
    for step in range(10):
        whole = ToyStream(7).batch(step).input_ids
        shares = [rank["inputs"][step] for rank in ranks]
        assert [len(share) for share in shares] == [4, 3]
        assert whole[0::2].equal(shares[0]) and whole[1::2].equal(shares[1])


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(
    folder: Path, ranks: list[dict[str, Any]]
) -> None:
    assert ranks[0]["cut"].startswith(
        "Preempted: Stopped after step 5 of 10 (another process was asked to stop)"
    )
    assert ranks[1]["cut"].startswith("Preempted: Stopped after step 5 of 10 (received SIGTERM)")
    assert [rank["resumed"] for rank in ranks] == ["finished", "finished"]
    assert same_end(folder / "whole", folder / "cut")


@pytest.mark.slow
def test_each_process_draws_its_own_dropout_at_each_step(ranks: list[dict[str, Any]]) -> None:
    draws = [rank["draws"] for rank in ranks]
    assert [len(drawn) for drawn in draws] == [20, 20]  # two micro-batches a step
    assert len({*draws[0], *draws[1]}) == 40


@pytest.mark.slow
def test_what_one_process_finds_not_finite_stops_all(folder: Path, ranks: list[dict[str, Any]]) -> None:
    for rank in range(2):
        assert ranks[rank]["diverged"].startswith("Diverged: Step 6 has a loss of nan nats")
        assert f"stream.batch(5, rank={rank}, world_size=2)" in ranks[rank]["diverged"]
    assert [path.name for path in (folder / "bad" / "checkpoints").iterdir()] == ["step_00000004"]


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with open_world("cpu") as world:
        assert world == World(torch.device("cpu"), 0, 1) and world.is_main
        assert world.sum([1, 2.5]) == [1.0, 2.5]
        assert world.any(True) and not world.any(False)
        world.wait()
        model = ToyModel()
        assert world.wrap(model) is model


@pytest.mark.parametrize(
    ("wanted", "local_rank", "n_gpus", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 1, 2, "cuda:1"),
        ("cpu", 1, 2, "cpu"),
        ("cuda", 0, 1, "cuda:0"),
        ("cuda:1", 0, 2, "cuda:1"),
    ],
)
def test_devices(
    monkeypatch: pytest.MonkeyPatch, wanted: str, local_rank: int, n_gpus: int, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert choose_device(wanted, local_rank) == torch.device(expected)


@pytest.mark.parametrize(
    ("wanted", "local_rank", "n_gpus", "missing"),
    [("cuda", 0, 0, 0), ("cuda:3", 0, 2, 3), ("auto", 2, 2, 2)],
)
def test_gpus_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, wanted: str, local_rank: int, n_gpus: int, missing: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    message = (
        rf"needs GPU number {missing}, and torch finds {n_gpus} on this machine: set training\.device=cpu"
    )
    with pytest.raises(UserError, match=message):
        choose_device(wanted, local_rank)

"""What works on a CPU works on a GPU: the list of ``nanollama doctor --gpu``, and every study's small run."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from nanollama.cli import command
from nanollama.cli.doctor_gpu import CHECKS
from nanollama.model.mixers import MIXERS
from tests.toy_training import rows, same_end

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda", 0)
STUDIES = ("memory", "composition", "gssm", "tying")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_list(check: object) -> None:
    print(check(CUDA))  # type: ignore[operator]


# Learning is slow on a busy CPU, and compiling slower: tests of the loop and of mixers have both.
@pytest.mark.parametrize("name", ["losses and gradients as on the CPU", "decoding"])
def test_the_list_itself_can_be_run(name: str) -> None:
    assert CHECKS[name](torch.device("cpu"))


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["doctor", "--gpu"]) == 2
    assert "finds no CUDA device here" in capsys.readouterr().err


def train(study: str, folder: Path, *keys: str) -> Path:
    """The debug run of a study, on the GPU."""
    config = ROOT / "apps" / study / "config" / "debug.yaml"
    main = import_module(f"apps.{study}.train").main
    assert main([str(config), f"run_dir={folder}", "training.device=cuda", *keys]) == 0
    return folder


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("study", STUDIES)
def test_a_run_of_a_study_goes_on_with_the_same_bits(study: str, tmp_path: Path) -> None:
    keys = ("training.deterministic=true",)
    whole = train(study, tmp_path / "whole", *keys)
    cut = shutil.copytree(whole, tmp_path / "cut")
    (cut / "result.json").unlink()
    steps = sorted((cut / "checkpoints").iterdir())
    assert len(steps) > 1
    shutil.rmtree(steps[-1])
    train(study, cut, *keys)
    assert same_end(whole, cut)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("study", STUDIES)
def test_an_examination_uses_the_gpu_of_its_config(study: str, tmp_path: Path) -> None:
    run = train(study, tmp_path / "run")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    config = ROOT / "apps" / study / "config" / "eval.yaml"
    assert import_module(f"apps.{study}.eval").main([str(config), f"run={run}"]) == 0
    assert torch.cuda.max_memory_allocated() > before


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("implementation", MIXERS)
@pytest.mark.parametrize("study", ["memory", "composition"])
def test_every_study_takes_every_model(study: str, implementation: str, tmp_path: Path) -> None:
    run = train(study, tmp_path / "run", f"model.implementation={implementation}")
    losses = [row["loss"] for row in rows(run)]
    assert losses[-1] < 0.8 * losses[0]

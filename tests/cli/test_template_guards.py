"""What `nanollama new study` writes keeps its promises about what is measured, and on what."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import apps
from nanollama.cli import command as cli
from nanollama.config import load_config
from nanollama.errors import UserError
from nanollama.launcher.plan import read_plan

ROOT = Path(__file__).parents[2]
DEBUG = "apps/guarded/config/debug.yaml"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of a study that was just written, at the root of whose checkout we are."""
    (tmp_path / "apps" / "toy").mkdir(parents=True)
    (tmp_path / "apps" / "__init__.py").touch()
    (tmp_path / "apps" / "toy" / "settings.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # commands put the checkout there
    monkeypatch.setattr(apps, "__path__", [str(tmp_path / "apps"), *apps.__path__])
    assert cli.main(["new", "study", "guarded"]) == 0
    names = ("data", "settings", "eval", "train")
    yield {name: importlib.import_module(f"apps.guarded.{name}") for name in names}
    for name in [name for name in sys.modules if name.startswith("apps.guarded")]:
        del sys.modules[name]
    vars(apps).pop("guarded", None)


class Counter(nn.Module):
    """Knows all answers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input_ids: Tensor, query_positions: Tensor) -> Tensor:
        return nn.functional.one_hot(3 + input_ids[:, :-1].sum(dim=1), 99)[:, None] * self.scale


@pytest.mark.parametrize(("n_bits", "n_different"), [(3, 1), (4, 2), (5, 4), (16, 1000), (63, 1000)])
def test_no_question_is_asked_twice(study: dict[str, ModuleType], n_bits: int, n_different: int) -> None:
    size = [f"n_bits={n_bits}", f"model.vocab_size={n_bits + 4}"]
    examiner = study["eval"].Examiner(load_config(study["settings"].TrainConfig, [DEBUG, *size]))
    asked = {tuple(row) for row in examiner.questions.input_ids.tolist()}
    assert len(asked) == len(examiner.questions.targets) == n_different
    found = examiner.evaluate(Counter(), 0)
    assert found["accuracy"] == 1.0
    # All right, and the lower end is that of so many answers: Clopper and Pearson's.
    assert found["accuracy_low"] == pytest.approx(0.025 ** (1 / n_different))


def test_a_run_goes_on_with_the_questions_that_it_began_with(
    study: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [DEBUG, "training.n_steps=3", "training.optimizer.warmup_steps=1", "training.device=cpu"]
    assert study["train"].main([*command, "training.max_minutes=1e-9"]) == 75
    questions = study["data"].FreshStream(16, 1000, 0).batch(0)  # some that it learns from
    with monkeypatch.context() as changed:
        changed.setattr(study["eval"], "held_out", lambda *_: questions)
        assert study["train"].main(command) == 2
    assert "The set of examples to measure on, questions, is not what the run" in capsys.readouterr().err
    assert study["train"].main(command) == 0


def test_claims_about_what_is_not_measured_are_refused(study: dict[str, ModuleType]) -> None:
    grid = "apps/guarded/config/grid.yaml"
    assert len(read_plan([grid]).runs) == 4
    with pytest.raises(UserError, match="'acuracy', which no run of this study measures"):
        read_plan([grid, "expect.0.measure=acuracy"])

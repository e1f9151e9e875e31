"""A small part of the campaign of faults, the same trials each time; and it notices what it is there for."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import kills
from tests.faults.__main__ import CAMPAIGNS
from tests.faults.campaign import rng_of
from tests.faults.children import ROOT, Calm, arguments, run
from tests.faults.configs import Configs, show
from tests.faults.questions import Questions

pytest.importorskip("tokenizers")


SEED = 358380
"""Of trials that all take the study whose runs are shortest, and of which none looks at a page."""


@pytest.mark.slow
def test_a_trial_of_each_campaign() -> None:
    command = [sys.executable, "-m", "tests.faults", "--only", "0", "--seed", str(SEED)]
    places = os.pathsep.join(map(str, (ROOT / "tests" / "no_drawing", ROOT / "src", ROOT)))
    environment = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": 1 trials, 0 failed") == len(CAMPAIGNS)


@pytest.mark.parametrize("number", range(40))
def test_mistyped_configs(number: int, tmp_path: Path) -> None:
    assert Configs(tmp_path).trial(rng_of(1, "configs", number)) is None


def test_hostile_questions(tmp_path: Path) -> None:
    assert Questions(tmp_path).trial(random.Random(0)) is None


def test_a_traceback_about_a_config_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.gssm.train.main", lambda argv: 1 // 0)
    found = show("gssm", "debug", ROOT / "apps" / "gssm" / "config" / "debug.yaml")
    assert found is not None and "ZeroDivisionError" in found


@pytest.mark.slow
def test_other_weights_and_leftovers_are_noticed(tmp_path: Path) -> None:
    """In a process of its own, which may fork."""
    code = "import tests.faults.test_faults as t, sys; from pathlib import Path; t.notice(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def notice(folder: Path) -> None:
    """A run with another seed is not the calm one, nor is one with a file too many."""
    calm = Calm(folder)
    other = folder / "other"
    run("apps.gssm.train", [*arguments("gssm", other), "training.seed=9"], folder)
    assert "other weights" in (calm.compare("gssm", other) or "")
    copy = shutil.copytree(calm.run("gssm"), folder / "copy")
    assert calm.compare("gssm", copy) is None
    (copy / ".left.tmp").write_text("")
    assert "left over: ['.left.tmp']" in (calm.compare("gssm", copy) or "")
    fault = kills.watch(folder / "dies", 5, kills.die, None)
    assert run("apps.gssm.train", arguments("gssm", folder / "dies"), folder, before=fault).code == -9

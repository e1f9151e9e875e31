"""Threads are told how to wait before torch is loaded, whichever command begins, and users are obeyed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanollama.cli import doctor
from nanollama.monitor.environment import describe_environment
from nanollama.waiting import DEFAULTS, VARIABLES, set_waiting

ROOT = Path(__file__).parents[1]
BEGINNINGS = (
    "nanollama.__main__",
    "nanollama.cli.command",
    "nanollama.launcher.local.forkserver",
    "nanollama.launcher.slurm.child",
    "nanollama.launcher.slurm.job",
    "benchmarks.__main__",
    *(
        f"apps.{path.parent.name}.{path.stem}"
        for path in sorted(ROOT.glob("apps/*/*.py"))
        if "def main(" in path.read_text(encoding="utf-8")
    ),
)
PROBE = """
import importlib, json, os, sys

class Torch:  # stands where torch would be loaded, and looks around
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise SystemExit(os.environ.get("GOMP_SPINCOUNT"))

sys.meta_path.insert(0, Torch())
seen = {}
for module in json.loads(sys.argv[1]):
    os.environ.pop("GOMP_SPINCOUNT", None), os.environ.pop("KMP_BLOCKTIME", None)
    for name in [name for name in sys.modules if name.split(".")[0] in ("nanollama", "apps", "benchmarks")]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except SystemExit as loading:
        seen[module] = loading.code
    else:
        seen[module] = os.environ.get("GOMP_SPINCOUNT")
print(json.dumps(seen))
"""


def python(*arguments: str, **variables: str) -> str:
    """What a fresh Python prints that has none of the variables but these."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **variables}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_every_beginning_sets_it_before_torch_is_loaded() -> None:
    seen = json.loads(python("-c", PROBE, json.dumps(BEGINNINGS)))
    assert len(seen) == len(BEGINNINGS) > 20
    assert set(seen.values()) == {DEFAULTS["GOMP_SPINCOUNT"]}, seen


@pytest.mark.parametrize("name", VARIABLES)
def test_whoever_has_chosen_is_left_alone(name: str) -> None:
    code = f"import nanollama, os; print([os.environ.get(name) for name in {VARIABLES!r}])"
    expected = [{name: "17"}.get(other) for other in VARIABLES]
    assert python("-c", code, **{name: "17"}) == f"{expected}\n"


def test_nothing_is_claimed_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    set_waiting()
    assert not set(VARIABLES) & set(os.environ)
    assert describe_environment(torch.device("cpu"), 1)["hardware"]["threads_wait"] == {}
    assert "waiting      as the runtime likes\n" in doctor.examine()


def test_a_run_and_the_doctor_say_how_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    found = describe_environment(torch.device("cpu"), 1)["hardware"]["threads_wait"]
    assert found == {"OMP_WAIT_POLICY": "ACTIVE"}
    assert "waiting      OMP_WAIT_POLICY=ACTIVE\n" in doctor.examine()
    monkeypatch.delenv("OMP_WAIT_POLICY")
    for name, value in DEFAULTS.items():
        monkeypatch.setenv(name, value)
    assert "(the default here, gentle to busy machines)\n" in doctor.examine()

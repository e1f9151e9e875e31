"""Wrong input of every kind, through the commands that users type: one sentence, code 2, no traceback."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from bad_configs import CONFIGS, OVERRIDES, PATHS
from bad_data import COMMAND, DATA, DATASET, EXAMINATIONS, RUN_FOLDERS
from bad_input import GOOD, Case

APPS = Path(__file__).parents[1] / "apps"
WITHOUT_EFFECT = [*PATHS, *CONFIGS, *OVERRIDES]
CASES = [*WITHOUT_EFFECT, *DATA, *RUN_FOLDERS, *DATASET, *EXAMINATIONS, *COMMAND]
COMMANDS = {
    "train": "apps.memory.train",
    "eval": "apps.memory.eval",
    "show": "apps.memory.show",
    "chat": "apps.memory.chat",
    "generate": "apps.memory.dataset.generate",
    "sql_db": "apps.memory.dataset.sql_db",
    "nanollama": "nanollama.cli.command",
}


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("NOWHERE", raising=False)
    Path("apps").symlink_to(APPS)
    Path("good.yaml").write_text(GOOD)


def prepare(case: Case) -> None:
    for name, content in case.files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def names() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrong_input_is_told_in_one_sentence(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(case)
    before = names()
    command, *argv = shlex.split(case.typed, posix=False)
    assert importlib.import_module(COMMANDS[command]).main(argv) == 2
    said = capsys.readouterr().err.removesuffix("\n")
    assert "Traceback" not in said
    # The parser of the command line shows its usage before the sentence.
    said = said.rpartition("\n")[2] if said.startswith("Usage: nanollama") else said
    assert re.fullmatch(".*".join(map(re.escape, case.said.split("..."))), said, re.DOTALL), said
    assert all(len(line) < 500 and line.endswith((".", ")", "?", "]")) for line in said.splitlines())
    if case in WITHOUT_EFFECT:
        assert names() == before  # a wrong config has no effect


def test_the_table_is_as_long_as_promised() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40


def test_the_good_config_is_good() -> None:
    assert importlib.import_module(COMMANDS["train"]).main(["good.yaml", "--dry-run"]) == 0

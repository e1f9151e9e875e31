"""Words that messages share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nanollama.errors import UserError
from nanollama.report.runs import read_run
from nanollama.studies import run_verb_of
from nanollama.training.trained import run_folder_of
from nanollama.watch.command import watch
from nanollama.wording import nanollama_command


def test_a_command_that_is_advised_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment that is not activated, as that of `make`, its name alone says nothing to a shell."""
    folder = tmp_path / ".venv/bin"
    folder.mkdir(parents=True)
    (folder / "nanollama").write_text("#!/bin/sh\n")
    (folder / "nanollama").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    assert nanollama_command("report", "my run") == ".venv/bin/nanollama report 'my run'"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert nanollama_command() == str(folder / "nanollama")
    monkeypatch.setenv("PATH", f"/usr/bin:{folder}")
    assert nanollama_command("report", "runs/a") == "nanollama report runs/a"
    monkeypatch.setenv("PATH", "/usr/bin")
    (folder / "nanollama").unlink()
    assert nanollama_command() == "nanollama"


def test_what_is_there_is_told_to_who_names_a_run_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asks = [
        lambda name: run_verb_of("chat", name, []),
        lambda name: read_run(Path(name)),
        lambda name: run_folder_of(Path(name)),
        lambda name: watch([name]),
    ]
    for name in ("ask", "head", "narrow", "wide"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "config.yaml").write_text("name: x\n")
    for ask in asks:
        with pytest.raises(UserError, match="such as runs/ask, runs/head, runs/narrow"):
            ask("runs/x")
        with pytest.raises(UserError, match="did you mean 'runs/narrow'"):
            ask("runs/narow")

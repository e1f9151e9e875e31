"""Words that messages share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
    monkeypatch.chdir("/")
    assert nanollama_command() == str(folder / "nanollama")
    monkeypatch.setenv("PATH", f"/usr/bin:{folder}")
    assert nanollama_command("report", "runs/a") == "nanollama report runs/a"
    monkeypatch.setenv("PATH", "/usr/bin")
    (folder / "nanollama").unlink()
    assert nanollama_command() == "nanollama"

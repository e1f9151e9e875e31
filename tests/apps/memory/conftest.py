"""A small pretrained model, and a folder to train it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy_pretrained import write_model, write_text


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretrained model; not to be written to."""
    return write_model(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a text."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    return tmp_path

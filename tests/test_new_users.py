"""What new users type is answered as `new_users` says: one line after another, in one folder."""

from __future__ import annotations

import importlib
import io
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_input import GOOD
from new_users import TYPED

APPS = Path(__file__).parents[1] / "apps"
WORDS = ["apps/composition/config/debug.yaml", "training.n_steps=2", "training.device=cpu"]


def call(typed: str) -> int:
    """The exit code of a command, in this process."""
    program, *argv = shlex.split(typed)
    module = "nanollama.cli.command" if program == "nanollama" else argv[1]
    code = importlib.import_module(module).main(argv if program == "nanollama" else argv[2:])
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all is typed, from the first line of the table to the last."""
    path = tmp_path_factory.mktemp("first_hour")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setattr(sys, "path", list(sys.path))
        Path("apps").symlink_to(APPS)
        Path("empty").mkdir()
        Path("text.txt").write_text("hello\n")
        Path("expect.yaml").write_text("expect:\n  - {claim: it learns, measure: loss, at_most: 1}\n")
        for name in ("good.yaml", "my config.yaml"):
            Path(name).write_text(GOOD)
        assert call(shlex.join(["nanollama", "train", *WORDS, "run_dir=runs/words"])) == 0
        assert call("nanollama train good.yaml run_dir=runs/stopped") == 0
        Path("runs/stopped/result.json").unlink()
        shutil.rmtree("runs/stopped/checkpoints")
        yield path


@pytest.mark.slow
def test_what_new_users_type_is_answered(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "200")
    wrong = []
    for typed, code, said in TYPED:
        monkeypatch.setattr(sys, "stdin", io.StringIO("Where was Desmond Elder born?\nquit\n"))
        found = call(typed)
        out, err = capsys.readouterr()
        words = " ".join(f"{out}\n{err}".split())
        pattern = ".*".join(map(re.escape, said.split("...")))
        if found != code or "Traceback" in words or not re.search(pattern, words):
            wrong.append(f"$ {typed}\nexpected {code}: {said}\ngot {found}: {words[-600:]}")
    assert not wrong, "\n\n".join(wrong)


def test_the_table_is_as_long_as_promised() -> None:
    typed = [line for line, _, _ in TYPED]
    assert len(set(typed)) >= 60
    assert sum(code == 0 for _, code, _ in TYPED) >= 10

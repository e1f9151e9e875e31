"""A folder that is named for the tables of an examination holds those of no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field

from nanollama.config import dump_config, load_config
from nanollama.errors import UserError
from nanollama.training import trained
from nanollama.training.examination_config import ExaminationConfig
from nanollama.training.run_config import TrainingRunConfig


class ToyExamination(ExaminationConfig):
    """It may write two tables."""

    tables: ClassVar[tuple[str, ...]] = ("all.csv", "some.csv")
    n: int = Field(default=1, description="Any key.")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained, "load_run", lambda *_, **__: "model")
    return tmp_path


def examine(*tables: str, **keys: Any) -> None:
    config = ToyExamination(run=Path("run"), out=Path("out"), **keys)
    folder = config.make_folder(config.load(TrainingRunConfig))
    for name in tables:
        (folder / name).write_text(f"{config.n}")


def test_it_says_what_it_is_and_keeps_no_table_from_before(here: Path) -> None:
    examine("all.csv", "some.csv")
    (here / "out" / "notes.csv").touch()
    examine("all.csv")
    assert {path.name for path in Path("out").iterdir()} == {"config.yaml", "all.csv", "notes.csv"}
    assert load_config(ToyExamination, ["out/config.yaml"]).n == 1


@pytest.mark.parametrize("there", ["config.yaml", "some.csv"])
def test_that_of_another_config_is_refused_and_stays(here: Path, there: str) -> None:
    (here / "out").mkdir()
    other = ToyExamination(run=Path("run"), out=Path("out"), n=2)
    (here / "out" / there).write_text(dump_config(other))
    with pytest.raises(UserError, match="out = out holds what another config has written: name another"):
        examine("all.csv", "some.csv")
    assert [path.name for path in Path("out").iterdir()] == [there]


def test_one_that_cannot_be_written_to_is_said_in_a_sentence(here: Path) -> None:
    (here / "out").touch()
    with pytest.raises(UserError, match="Cannot write out: File exists; name another folder as out=DIR"):
        examine()

"""The config of a run that was copied or renamed trains in no other run's folder unnoticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nanollama.config import RunConfig, dump_config
from nanollama.entrypoint import run_main
from nanollama.errors import ConfigError
from nanollama.launcher.plan import read_plan

ROOT = Path(__file__).parents[2]
CONFIG = "runs/{}/config.yaml"


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working directory a run ``t``, and what seems to be its copy."""
    monkeypatch.chdir(tmp_path)
    for name in ("t", "copy"):
        folder = Path("runs", name)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(dump_config(RunConfig(study="toy", name="t")))
        (folder / "environment.json").write_text("{}")


def train(*argv: str, shows: bool = False) -> tuple[int, list[Path]]:
    """The exit code, and the folders in which it was trained."""
    places: list[Path] = []
    code = run_main(
        RunConfig, lambda config: places.append(config.folder), argv, program="train", shows=shows
    )
    return code, places


def test_the_config_of_a_copied_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(CONFIG.format("t"))[0] == 0
    assert train(CONFIG.format("copy"), "overwrite=true") == (2, [])
    assert capsys.readouterr().err == (
        "runs/copy/config.yaml: is the config of the run in runs/copy, but would train in runs/t: "
        "add run_dir=runs/copy to go on with that run, or name=NAME for another one.\n"
    )
    assert train(CONFIG.format("copy"), "run_dir=runs/copy")[1] == [Path("runs/copy")]
    assert train(CONFIG.format("copy"), "name=new")[1] == [Path("runs/new")], "a template"
    assert train(CONFIG.format("copy"), shows=True)[0] == 0


def test_the_config_of_a_renamed_run_is_refused_and_told_what_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move("runs/t", "runs/renamed")
    assert train(CONFIG.format("renamed")) == (2, [])
    assert train("runs/renamed")[0] == 2
    said = capsys.readouterr().err.splitlines()
    assert "add run_dir=runs/renamed" in said[0]
    assert "name runs/renamed/config.yaml, and run_dir=runs/renamed where it was moved" in said[1]
    shutil.move("runs/renamed", "runs/t")
    monkeypatch.chdir("runs/t")
    assert train("config.yaml")[0] == 2, "it would train in runs/t/runs/t"
    assert "add run_dir=." in capsys.readouterr().err


def test_what_no_run_wrote_and_other_paths_to_the_same_place_are_fine(tmp_path: Path) -> None:
    Path("link").symlink_to(tmp_path / "runs")
    assert train(f"{tmp_path}/link/t/config.yaml")[1] == [Path("runs/t")]
    Path("runs/copy/environment.json").unlink()
    assert train(CONFIG.format("copy"))[1] == [Path("runs/t")]


def test_a_plan_of_a_copied_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Path("runs/copy/config.yaml").absolute()
    config.write_text(f"base: {ROOT}/apps/memory/config/debug.yaml\n")
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"is the config of the run in .*, but would train in runs/debug"):
        read_plan([str(config)])
    assert read_plan([str(config), f"run_dir={config.parent}"]).folder == config.parent

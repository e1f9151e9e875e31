"""``nanollama new study NAME``: what it writes works at once, and what it refuses leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanollama.cli import command as cli

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "src" / "nanollama" / "cli" / "study_template"
LONGEST = "n" * 24
IN_TURN = """\
import runpy, sys
for line in sys.argv[1:]:
    sys.argv = line.split()
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, (line, end.code)
"""
"""What ``python -m`` does with each of some lines, in one process: to import torch is what takes longest."""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a checkout with the library and a study."""
    (tmp_path / "apps" / "toy").mkdir(parents=True)
    (tmp_path / "apps" / "__init__.py").touch()
    (tmp_path / "apps" / "toy" / "settings.py").touch()
    (tmp_path / "src").symlink_to(ROOT / "src")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(*arguments: str) -> str:
    """What a command of Python prints here, where it must succeed."""
    environment = {**os.environ, "PYTHONPATH": f"src{os.pathsep}.", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [sys.executable, *arguments], env=environment, text=True, capture_output=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def files_of(folder: Path) -> dict[Path, bytes]:
    """All files of a folder, library apart."""
    paths = [path for path in folder.rglob("*") if path.is_file() and folder / "src" not in path.parents]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_a_new_study_works_at_once(checkout: Path) -> None:
    said = python("-m", "nanollama", "new", "study", "counting")
    assert "nanollama train apps/counting/config/debug.yaml" in said
    written = files_of(checkout / "apps" / "counting") | files_of(checkout / "tests")
    # What it has found out about torch for `make check` already, it need not find out once more.
    python("-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache"), "apps/counting")
    said = python(
        "-c",
        IN_TURN,
        "apps.counting.train apps/counting/config/debug.yaml",
        "nanollama eval apps/counting/config/eval.yaml",
        "nanollama report attention runs/counting_debug",
        "nanollama schema counting --write",
    )
    result = json.loads(Path("runs/counting_debug/result.json").read_text())
    assert result["metrics"]["accuracy"] > 0.9
    assert "of 1000 right\n" in said
    page = Path("runs/counting_debug/attention.html").read_text()
    assert "the batch that would follow the last step of training, number 200" in page and "induction" in page
    assert "4 passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/apps/counting")
    assert "holds" in python("-m", "nanollama", "grid", "run", "apps/counting/config/grid.yaml")
    now = files_of(checkout / "apps" / "counting") | files_of(checkout / "tests")
    assert {path: text for path, text in now.items() if path.suffix != ".pyc"} == written


def test_any_name_makes_a_study_in_good_order(checkout: Path) -> None:
    for name in ("a", "match", "json", "test", LONGEST):
        assert cli.main(["new", "study", name]) == 0
        settings = Path("apps", name, "settings.py").read_text()
        assert settings.count(f'Literal["{name}"]') == 2
        modelines = re.findall(r"\$schema=(\S+)", Path("apps", name, "config", "grid.yaml").read_text())
        assert modelines == [".schema/train.json"]
        assert Path("apps", name, "config", modelines[0]).is_file()
    assert not list(checkout.glob(".new_study_*"))
    assert python("-m", "ruff", "format", "--check", "apps", "tests")
    assert python("-m", "ruff", "check", "apps", "tests")
    assert not [path for path, text in files_of(checkout / "apps").items() if b"$name" in text]


def test_a_new_study_is_short() -> None:
    lines = [line for path in TEMPLATES.rglob("*.py.in") for line in path.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 177


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Counting",
        "count-ing",
        "2fast",
        "_x",
        "naïve",
        "a b",
        "../x",
        "a\n",
        "class",
        "null",
        LONGEST + "n",
    ],
)
def test_bad_names_are_refused(name: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(checkout)
    assert cli.main(["new", "study", name]) == 2
    assert re.fullmatch(
        r"'.*' cannot be the name of a study: expected 1 to 24 small letters, .*\.\n", capsys.readouterr().err
    )
    assert files_of(checkout) == before


@pytest.mark.parametrize(
    "taken",
    [
        "apps/counting",
        "apps/counting/data.py",
        "tests/apps/counting/notes",
        "tests/cli/test_counting_study.py",
    ],
)
def test_what_is_there_is_never_touched(
    taken: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(taken).parent.mkdir(parents=True, exist_ok=True)
    Path(taken).write_text("mine")
    before = files_of(checkout)
    assert cli.main(["new", "study", "counting"]) == 2
    assert re.fullmatch(
        r"\S*counting\S* is there already: choose another name than 'counting'\.\n", capsys.readouterr().err
    )
    assert files_of(checkout) == before


@pytest.mark.parametrize("failing", ["study", "tests"])
def test_all_of_it_or_nothing(
    failing: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == failing:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    before = files_of(checkout)
    monkeypatch.setattr(Path, "rename", fail)
    assert cli.main(["new", "study", "counting"]) == 2
    assert capsys.readouterr().err == (
        f"Cannot write the study 'counting' in {checkout}: No space left on device.\n"
    )
    assert files_of(checkout) == before


def test_elsewhere_than_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new", "study", "counting"]) == 2
    assert "A study is written at the root of the repository: run this" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_first_study_of_a_folder_needs_no_checkout(tmp_path: Path) -> None:
    """As for one who has installed the package alone: the library is found, and no studies are."""
    code = "from nanollama.cli.command import main; raise SystemExit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for arguments in (["new", "study", "first"], ["train", "apps/first/config/debug.yaml", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            env=environment,
            cwd=tmp_path,
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    assert "study: first" in done.stdout
    assert (tmp_path / "tests" / "apps" / "first" / "test_first_study.py").exists()


def test_contributing_tells_the_same_story_in_the_same_order() -> None:
    readme = (TEMPLATES / "study" / "README.md.in").read_text(encoding="utf-8")
    files = re.findall(r"^\| `(\S*?)` \|", readme, flags=re.MULTILINE)
    templates = {path.name.removesuffix(".in") for path in TEMPLATES.rglob("*.in")}
    names = {Path(file).name.replace("${name}", "NAME") for file in files}
    assert names == templates - {"__init__.py", "README.md"}
    story = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding a study")[2]
    places = [story.find(f"`{re.sub(r'[$]{?name}?', 'NAME', file)}`") for file in files]
    assert -1 not in places
    assert places == sorted(places)

"""The lessons: each runs as it is, and says of itself whether what it shows is so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "tutorial").glob("*.py"))
OF_STUDIES = [path for path in LESSONS if "from apps." in path.read_text(encoding="utf-8")]
RUNS = "LESSONS_FIND_RUNS_IN"
"""In the environment: a folder with the runs of the README's first commands, which need no training again."""
PAGELESS = ("7_to_slurm",)
"""Lessons that run grids whose pages they do not look at."""
TRAINED = {"2_ask_and_attack": ("ask", "ask"), "3_iteration_head": ("head", "iteration")}


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=[path.stem for path in LESSONS])
def test_a_lesson_shows_what_it_says(lesson: Path, tmp_path: Path) -> None:
    places = [*([ROOT / "tests" / "no_drawing"] if lesson.stem in PAGELESS else []), ROOT / "src", ROOT]
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(map(str, places))}
    if RUNS in os.environ and lesson.stem in TRAINED:
        there, here = TRAINED[lesson.stem]
        shutil.copytree(Path(os.environ[RUNS]) / there, tmp_path / "runs" / here)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(lesson)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("lesson", OF_STUDIES, ids=[path.stem for path in OF_STUDIES])
def test_a_lesson_finds_all_that_it_imports_in_its_own_folder(lesson: Path) -> None:
    """As in a notebook there: the library is installed, and Python has not been told where studies are."""
    text = lesson.read_text(encoding="utf-8")
    if "transformers import" in text:
        pytest.importorskip("transformers")
    first_cell = text.split("# %%\n")[1].split("\n# %%")[0]
    assert "from apps." in first_cell
    done = subprocess.run(
        [sys.executable, "-c", first_cell],
        cwd=lesson.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("lesson", LESSONS, ids=[path.stem for path in LESSONS])
def test_a_lesson_has_two_exercises_with_solutions_and_asserts(lesson: Path) -> None:
    text = lesson.read_text(encoding="utf-8")
    assert text.count("# ## Exercise") == text.count("# *Solution.*") == 2
    assert text.count("\nassert ") >= 3

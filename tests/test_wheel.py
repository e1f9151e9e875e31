"""The package as one who has no checkout gets it: built, installed into an empty environment, used."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

import nanollama
from nanollama.version import FALLBACK

ROOT = Path(__file__).parents[1]
TAG = "v9.8.7"


def run(*argv: str | Path, cwd: Path, code: int = 0, **variables: str) -> str:
    """What a command says, having ended with this code; nothing of this checkout is in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIT_"))}
    done = subprocess.run(
        list(map(str, argv)),
        cwd=cwd,
        env={**kept, "HOME": str(cwd), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a package is built of, as in an archive of the repository."""
    pytest.importorskip("setuptools_scm", reason="setuptools-scm is not installed (extra dev)")
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def program(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `nanollama` of an environment that holds the package, tagged, and what it needs."""
    folder = tmp_path_factory.mktemp("installed")
    tagged = folder / "tagged"
    shutil.copytree(source, tagged)
    run("git", "init", "-q", cwd=tagged)
    run("git", "add", ".", cwd=tagged)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    run("git", *who, "commit", "-qm", "All of it", cwd=tagged)
    run("git", *who, "tag", TAG, cwd=tagged)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    tools = str(Path(importlib.import_module("setuptools_scm").__file__ or "").parents[1])
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, tagged)
    run(*pip, *build, cwd=folder, PYTHONPATH=tools)
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / "bin" / "python"
    (wheel,) = folder.glob("nanollama-*.whl")
    run(*pip, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = (folder / "environment").glob("lib/python3*/site-packages")
    (packages / "others.pth").write_text(
        sysconfig.get_paths()["purelib"] + "\n"
    )  # not what is editable there
    return python.with_name("nanollama")


@pytest.fixture
def page(program: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the page of `nanollama watch` in a folder."""
    with subprocess.Popen([program, "watch"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split()[-1]
        finally:
            server.kill()


@pytest.mark.slow
def test_a_study_is_made_trained_reported_and_watched(
    program: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = run(
        program.with_name("python"), "-c", "import nanollama; print(nanollama.__file__)", cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(program.parents[1])
    assert run(program, "--version", cwd=tmp_path) == f"{TAG[1:]}\n"
    assert "No studies here" in run(program, "schema", "memory", cwd=tmp_path, code=2)
    run(program, "new", "study", "counting", cwd=tmp_path)
    run(program, "train", "apps/counting/config/debug.yaml", "training.n_steps=20", cwd=tmp_path)
    (result,) = tmp_path.glob("runs/*/result.json")
    assert json.loads(result.read_text())["status"] == "finished"
    run(program, "report", result.parent, cwd=tmp_path)
    assert (result.parent / "report.html").stat().st_size > 10_000
    url = request.getfixturevalue("page")
    for path in ("", "page.css", "watch.css", "watch.js", "chart.js", "parts.js"):
        with urlopen(url + path) as reply:
            assert reply.read()
    with urlopen(url + "api/state") as reply:
        (watched,) = json.loads(reply.read())["runs"]
    assert (watched["state"], watched["step"]) == ("finished", 20)
    (packages,) = program.parents[1].glob("lib/python3*/site-packages")
    assert all(
        (packages / "nanollama" / "chat" / name).exists() for name in ("chat.html", "chat.js", "chat.css")
    )


def test_without_git_the_version_is_the_one_that_the_package_says(source: Path) -> None:
    import setuptools_scm

    found = re.search(r'^fallback_version = "(.*)"$', (source / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    assert setuptools_scm.get_version(source, fallback_version=found[1]) == FALLBACK
    assert f"version: {FALLBACK}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.match(r"\d+\.\d+", nanollama.__version__)


def test_the_container_for_developers_is_built_of_our_dockerfile() -> None:
    described = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    folder = ROOT / ".devcontainer"
    assert (folder / described["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / described["build"]["context"]).resolve() == ROOT
    assert f"USER {described['remoteUser']}\n" in (ROOT / "Dockerfile").read_text()

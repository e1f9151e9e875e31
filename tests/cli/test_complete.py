"""Completion as shells ask for it: verbs, configs, keys, values, runs and studies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanollama.cli import command

ROOT = Path(__file__).parents[2]
DEBUG = "apps/memory/config/debug.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the studies are, a run is, and the command can be called by its name."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "apps").symlink_to(ROOT / "apps")
    (folder / "runs" / "one").mkdir(parents=True)
    (folder / "runs" / "one" / "config.yaml").touch()
    program = folder / "nanollama"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nanollama "$@"\n')
    program.chmod(0o755)
    return folder


def environment(folder: Path) -> dict[str, str]:
    paths = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{ROOT / 'src'}"}
    return {**os.environ, **paths}


def complete(folder: Path, line: str) -> list[str]:
    """What bash would offer at the end of a line; it parts words at blanks and at ``=``."""
    words = line.replace("=", " = ").split()
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        "source <(nanollama completion bash); complete -p nanollama >&2\n"
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _nanollama_completion nanollama\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert "-F _nanollama_completion nanollama" in done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nanollama tr", ["train"]),
        ("nanollama grid re", ["retry", "results", "record"]),
        ("nanollama train apps/memory/config/debug", [DEBUG]),
        (f"nanollama train {DEBUG} model.d_m", ["model.d_model="]),
        (f"nanollama grid run {DEBUG} seed=1 model.norm=r", ["rms"]),
        (f"nanollama grid run {DEBUG} training.seed=1 model.d_m", ["model.d_model="]),
        (f"nanollama eval {DEBUG} overwrite=", ["false", "true"]),
        ("nanollama chat r", ["runs/one"]),
        ("nanollama schema com", ["composition"]),
        ("nanollama train none.yaml mod", []),
        ("nanollama train apps/memory/config/none", []),
    ],
)
def test_bash_offers(line: str, expected: list[str], folder: Path) -> None:
    assert complete(folder, line) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_scripts(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    script = subprocess.run(
        ["nanollama", "completion", shell],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run([shell, "-n"], input=script.stdout, text=True, check=True)


def test_there_is_a_script_for_each_shell(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, word in {
        "bash": "complete -o default",
        "zsh": "#compdef",
        "fish": "complete --command",
    }.items():
        assert command.main(["completion", shell]) == 0
        assert word in capsys.readouterr().out
    assert command.main(["completion", "tcsh"]) == 2
    assert "expected one of bash, zsh, fish, got 'tcsh'" in capsys.readouterr().err

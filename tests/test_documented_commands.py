"""Every command that the READMEs and the list of commands show, in blocks, tables and sentences, is typed.

A command is either typed for real, smaller (`TYPED`), or taken in whole without its work (`TAKEN_IN`, each
with the reason): what is in neither fails. The blocks of README.md are typed as they are by ``.ci/run``.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from nanollama.cli.command import app
from nanollama.studies import list_studies

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "docs/commands.md",
    *sorted(f"apps/{p.parent.name}/README.md" for p in ROOT.glob("apps/*/README.md")),
]
PROGRAMS = r"(?:python -m|nanollama|bash|make|torchrun|source|git|echo) "
FEW, CPU = "training.n_steps=2", "training.device=cpu"

TYPED: dict[str, tuple[str, ...]] = {
    "python -m apps.memory.train apps/memory/config/debug.yaml": (FEW, CPU, "recall.n_people=2"),
    "nanollama report runs/debug": (),
    "nanollama chat runs/debug": (),
    "nanollama export hf runs/debug DIR": (),
    "python -m apps.composition.train apps/composition/config/debug.yaml": (FEW, CPU),
    "python -m apps.composition.eval apps/composition/config/eval.yaml": (),
    "nanollama report attention runs/composition_debug": (),
    "python -m apps.gssm.train apps/gssm/config/debug.yaml": (FEW, CPU),
    "python -m apps.gssm.eval apps/gssm/config/eval.yaml": (),
    "nanollama report gap runs/gssm_debug": (),
    "nanollama doctor": (),
    "python -m apps.tying.train --help-options": (),
}
"""In this order: each command, and what makes it small."""

TAKEN_IN: list[tuple[str, str]] = [
    (r"git clone ", "needs a network; the checkout is there"),
    (r"source ", "of the shell, which has nothing to be taken in"),
    (
        r"make ",
        "trains or installs for minutes: make says what it would do, and CI makes venv, ask, head, docs",
    ),
    (
        r"bash ",
        "writes data of thousands or trains for hours: the shell reads the script, and its configs load",
    ),
    (r"echo .* \| ", "needs the run of `make ask`, with which CI types it"),
    (
        r"(?:nanollama|python -m|torchrun) .*?(?:--dry-run|\.yaml)",
        "trains or counts for minutes: --dry-run loads all",
    ),
    (r"python -m nanollama\.", "needs a cluster, or 20 MB from packages: the module is there"),
    (r"nanollama report runs/debug runs/narrow", "of two runs; CI types it"),
    (
        r"(?:nanollama|python -m|torchrun) ",
        "takes what a reader has to name, or a GPU, or time: --help answers",
    ),
]
"""Patterns of commands that are not carried out, the first that fits, and why."""


def documented() -> dict[str, str]:
    """Each command and the document that shows it first."""
    found: dict[str, str] = {}
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S):
            for line in filter(str.strip, block.splitlines()):
                found.setdefault(re.sub(r"\s+#.*", "", line).strip(), name)
        for line in re.sub(r"^(?:```|~~~).*?^(?:```|~~~)$", "", text, flags=re.M | re.S).splitlines():
            for command in _in_line(line):
                found.setdefault(command, name)
    return found


def _in_line(line: str) -> Iterator[str]:
    """Commands of a line; ``other.yaml`` behind one is the same command with another config of its folder."""
    command = ""
    for code in re.findall(r"`([^`]+)`", line):
        if re.match(PROGRAMS, code):  # a name alone is no command
            command = code.replace("\\|", "|")
            yield command
        elif command.endswith(".yaml") and re.fullmatch(r"\w+\.yaml", code):
            yield re.sub(r"\w+\.yaml$", code, command)


def call(typed: str, *more: str) -> int:
    """The exit code of a command of Python, in this process."""
    words = [*shlex.split(typed), *more]
    if words[0] == "nanollama":
        module, argv = "nanollama.cli.command", words[1:]
    else:
        place = words.index("-m")
        module, argv = words[place + 1], words[place + 2 :]
    loaded = importlib.import_module(module)
    main = getattr(loaded, "main", None) or importlib.import_module(f"{module}.__main__").main
    try:
        code = main(argv)
    except SystemExit as end:  # of options that explain themselves
        code = end.code
    assert isinstance(code, int)
    return code


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("apps").symlink_to(ROOT / "apps")


COMMANDS = documented()
OTHERS = [command for command in COMMANDS if command not in TYPED]


def reason(command: str) -> str | None:
    """Why a command is not carried out; None: nobody says."""
    return next((why for pattern, why in TAKEN_IN if re.match(pattern, command)), None)


@pytest.mark.slow
def test_cheap_commands_do_what_they_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, small in TYPED.items():
        monkeypatch.setattr(sys, "stdin", io.StringIO("Where was Desmond Elder born?\nquit\n"))
        assert call(command, *small) == 0, f"{command}\n{capsys.readouterr().err[-1000:]}"
    assert Path("runs/debug/report.html").is_file() and Path("DIR/config.json").is_file()
    assert Path("runs/composition_debug/attention.html").is_file()


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_are_taken_in_whole(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason(command) is not None, f"{COMMANDS[command]}: add `{command}` to TYPED or TAKEN_IN."
    words = command.split()
    if words[0] in ("git", "source") or " | " in command:
        return
    if words[0] == "make":
        done = subprocess.run(["make", "-n", "-C", ROOT, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif words[0] == "bash":
        done = subprocess.run(["bash", "-n", ROOT / words[1]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for config in re.findall(r"apps/\w+/config/\w+\.yaml", (ROOT / words[1]).read_text()):
            assert (ROOT / config).is_file(), config
    elif re.search(r" (?:config=)?apps/\S+\.yaml", command):
        code = call(re.sub(r" [A-Z]+$", "", command), "--dry-run")
        assert code == 0, capsys.readouterr().err
    else:
        answered(command, capsys)


def answered(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb of a command with a placeholder answers ``--help``."""
    command = re.sub(r"^torchrun .*?-m", "python -m", command)
    words = re.sub(r" \[?(?:[A-Z{]|--|[a-z]+/|key=).*", "", command).split()
    *before, last = words
    if last in ("gap", "attention"):
        assert call(command.removesuffix(" RUN")) == 2
        assert f"nanollama report {last} RUN" in capsys.readouterr().err
        return
    if "-m" in words:
        module, *rest = words[words.index("-m") + 1 :]
        start, _, verbs = module.rpartition(".")
        studies = list_studies() if "<study>" in start else [""]
        typed = [
            " ".join([f"python -m {start.replace('<study>', study)}.{verb}", *rest])
            for study in studies
            for verb in verbs.split("|")
        ]
    else:
        typed = [" ".join([*before, verb]) for verb in last.split("|")]
    for one in typed:
        if one.startswith("python -m nanollama."):
            assert importlib.util.find_spec(one.split()[2]) is not None
            continue
        code = call(one, "--help")
        said = capsys.readouterr()
        assert code == 0 or "is not installed: run `pip install" in said.err, f"{one}\n{said.err}"


PAGES = {
    "apps.composition.attention": "nanollama report attention",
    "apps.gssm.gap": "nanollama report gap",
    "apps.memory.chat": "nanollama chat",
    "apps.memory.show": "nanollama data show",
}
"""Modules that a verb of `nanollama` calls, which is what is documented."""


def verbs_of(command: Any, words: str = "nanollama") -> Iterator[str]:
    """All commands of a group, with the words before them."""
    if not hasattr(command, "commands"):
        yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs_of(inner, f"{words} {name}")


def modules() -> Iterator[str]:
    """What `python -m` can run of the studies."""
    for path in sorted(ROOT.glob("apps/**/*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8"):
            yield ".".join(parts[:-1] if parts[-1] == "__main__" else parts)


def test_the_list_of_commands_has_every_command() -> None:
    listed = set()
    for line in (ROOT / "docs/commands.md").read_text(encoding="utf-8").splitlines():
        for command in _in_line(line):
            *before, last = re.sub(r" \[?(?:[A-Z{]|--|key=).*", "", command).split()
            listed |= {" ".join(before), *(" ".join([*before, verb]) for verb in last.split("|"))}
            module = next((word for word in command.split() if word.startswith("apps.")), "")
            start, _, verbs = module.rpartition(".")
            listed |= {f"{start}.{verb}" for verb in verbs.split("|")}
    verbs = set(verbs_of(typer.main.get_command(app)))
    assert {"nanollama grid run", "nanollama new study"} <= verbs
    assert verbs - listed == set()
    wanted = {re.sub(r"^apps\.\w+\.(train|eval|local_grid)$", r"apps.<study>.\1", name) for name in modules()}
    wanted = {PAGES.get(name, name) for name in wanted}
    shared = {f"apps.<study>.{verb}" for verb in ("train", "eval", "local_grid")}
    assert shared < wanted and "apps.<study>.train" in listed
    assert wanted - shared - listed == set()


def test_none_is_passed_over() -> None:
    assert len(COMMANDS) > 60
    assert not [command for command in TYPED if command not in COMMANDS]
    assert reason("rm -rf runs") is None

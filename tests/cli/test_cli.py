"""The command ``nanollama``: its verbs find the study of a config in the working directory."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from toy import TOY

import nanollama
from nanollama import studies
from nanollama.cli import command as cli
from nanollama.cli import doctor
from nanollama.errors import UserError

SETTINGS = (
    "from toy import ToyConfig, Wide\n\nfrom nanollama.studies import Study\n\n"
    "CONFIGS = {'train': ToyConfig, 'eval': Wide}\n"
    "STUDY = Study('toy', CONFIGS, commands=('show', 'chat'), pages=('attention',))\n"
)
VERB = "def main(argv):\n    print({verb!r}, *argv)\n    return {code}\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of a checkout with the study ``toy``, whose verbs print what they were given."""
    study = tmp_path / "apps" / "toy"
    study.mkdir(parents=True)
    (tmp_path / "apps" / "__init__.py").touch()
    (study / "settings.py").write_text(SETTINGS)
    for verb, code in {"train": 0, "show": 0, "chat": 75}.items():
        (study / f"{verb}.py").write_text(VERB.format(verb=verb, code=code))
    (tmp_path / "toy.yaml").write_text(TOY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in modules_of_studies():
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in modules_of_studies():
        del sys.modules[name]


def modules_of_studies() -> list[str]:
    return [name for name in sys.modules if name == "apps" or name.startswith("apps.")]


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "toy.yaml"], "train toy.yaml"),
        (["train", "toy.yaml", "seed=3", "--dry-run"], "train toy.yaml seed=3 --dry-run"),
        (["train", "--dry-run", "toy.yaml", "seed=-3"], "train --dry-run toy.yaml seed=-3"),
        (["train", "config=toy.yaml", "--help"], "train config=toy.yaml --help"),
        (["data", "show", "toy.yaml", "model.d_model=3"], "show toy.yaml model.d_model=3"),
    ],
)
def test_a_verb_gets_the_arguments_as_they_are(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, *argv) == (0, f"{said}\n", "")


def test_the_exit_code_is_the_verbs(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = checkout / "runs" / "one"
    run_dir.mkdir(parents=True)
    shutil.copy("toy.yaml", run_dir / "config.yaml")
    assert run(capsys, "chat", "runs/one", "n=3") == (75, "chat runs/one n=3\n", "")
    checkpoint = run_dir / "checkpoints" / "step_00000001"
    checkpoint.mkdir(parents=True)
    assert run(capsys, "chat", str(checkpoint)) == (75, f"chat {checkpoint}\n", "")
    Path("apps/toy/attention.py").write_text(VERB.format(verb="attention", code=0))
    assert run(capsys, "report", "attention", "runs/one", "step=3") == (0, "attention runs/one step=3\n", "")


@pytest.mark.usefixtures("checkout")
def test_the_study_may_come_from_a_base_or_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    Path("near.yaml").write_text("base: toy.yaml\n")
    Path("none.yaml").write_text("seed: 1\n")
    assert run(capsys, "train", "near.yaml")[1] == "train near.yaml\n"
    assert run(capsys, "train", "none.yaml", "study=toy")[1] == "train none.yaml study=toy\n"


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "tov.yaml"], "tov.yaml: no such file; did you mean 'toy.yaml'?"),
        (["train", "seed=3"], "command line: no config given; expected `[config=]PATH [key=value ...]`."),
        (["train", "none.yaml"], "none.yaml: study: required key is missing; expected one of 'toy'."),
        (
            ["train", "toy.yaml", "study=tyo"],
            "command line: study=tyo: expected one of 'toy', got 'tyo'; did you mean 'toy'?",
        ),
        (["eval", "toy.yaml"], "The study 'toy' has no 'eval'; it has train, show, chat, attention."),
        (["chat", "runs/x"], "runs/x: no such folder; expected the folder of a run, such as runs/debug."),
        (
            ["chat", "apps"],
            "apps: is not a run folder: it holds no config.yaml; "
            "expected the folder of a run, such as runs/debug.",
        ),
        (["schema", "tyo"], "Unknown study 'tyo'; did you mean 'toy'? (known: toy)"),
        (
            ["schema", "toy", "--config", "trian"],
            "The study 'toy' has no config 'trian'; did you mean 'train'? (known: train, eval)",
        ),
    ],
)
def test_what_is_wrong_is_told(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.yaml").write_text("seed: 1\n")
    assert run(capsys, *argv) == (2, "", f"{message}\n")


def test_elsewhere_than_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not Path(entry, "apps").is_dir()])
    Path("toy.yaml").write_text(TOY)
    code, out, err = run(capsys, "train", "toy.yaml")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"No studies here: neither \S+ nor a folder of yours around it has apps/<study>/settings\.py; "
        r"run this command in the repository, or name a config of it by its whole path\.\n",
        err,
    )


@pytest.mark.parametrize("place", ["apps/toy", "..", "../elsewhere"])
def test_the_checkout_is_found_from_within_and_by_a_whole_path(
    place: str, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not Path(entry, "apps").is_dir()])
    (checkout.parent / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(checkout / place)
    config = str(checkout / "toy.yaml") if place.startswith("..") else "../../toy.yaml"
    assert run(capsys, "train", config) == (0, f"train {config}\n", "")
    assert str(checkout) in sys.path


def test_a_study_is_written_at_the_root_alone(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout / "apps")
    code, _, err = run(capsys, "new", "study", "mine")
    assert (code, err) == (
        2,
        f"A study is written at the root of the repository: run this command in {checkout}.\n",
    )
    assert [path.name for path in Path().iterdir() if path.is_dir() and path.name != "__pycache__"] == ["toy"]


def test_a_config_is_no_verb_of_grid(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "grid", "config/some.yaml")
    assert code == 2
    assert "A verb is missing before 'config/some.yaml': `nanollama grid" in err


@pytest.mark.parametrize("command", ["import apps.memory.settings", "import nanollama.cli.command"])
def test_ctrl_c_while_modules_load_is_one_word(command: str) -> None:
    code = f"{command}\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "interrupted\n")


@pytest.mark.usefixtures("checkout")
def test_a_bug_in_a_study_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    Path("apps/toy/eval.py").write_text("import no_such_package\n")
    code, _, err = run(capsys, "eval", "toy.yaml")
    assert code == 1
    assert err.endswith("ModuleNotFoundError: No module named 'no_such_package'\n")


@pytest.mark.usefixtures("checkout")
def test_the_schema_of_each_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "schema", "toy")[1])["title"] == "ToyConfig"
    assert json.loads(run(capsys, "schema", "toy", "--config", "eval")[1])["title"] == "Wide"
    code, out, _ = run(capsys, "schema", "toy", "--write")
    assert (code, out.splitlines()) == (
        0,
        [f"wrote apps/toy/config/.schema/{kind}.json" for kind in ("train", "eval")],
    )
    assert json.loads(Path("apps/toy/config/.schema/eval.json").read_text())["title"] == "Wide"


@pytest.mark.parametrize(
    ("argv", "code"), [(["--help"], 0), ([], 2), (["train", "--help"], 0), (["train"], 2), (["data"], 2)]
)
def test_help(argv: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    found, out, err = run(capsys, *argv)
    assert found == code
    assert "Usage: nanollama" in out + err
    if argv in ([], ["--help"]):
        for verb in ("train", "eval", "new", "data", "chat", "report", "schema", "doctor"):
            assert f"\n  {verb} " in out + err


def test_no_verb_is_cut_off_in_the_list() -> None:
    groups = [typer.main.get_command(cli.app)]
    for group in groups:
        for name, command in getattr(group, "commands", {}).items():
            groups.append(command)
            said = command.get_short_help_str(limit=1000)
            assert 0 < len(said) <= 60 and said.endswith("."), f"{name}: {said}"
    assert len(groups) > 25


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"{nanollama.__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["data", "shwo"], "No such command 'shwo'. Did you mean 'show'?"),
        (["schema"], "Missing argument 'STUDY'."),
        (["chat"], "Missing argument 'RUN'."),
        (["report"], "`nanollama report --help` lists what can be given."),
        (["doctor", "me"], "Got unexpected extra argument"),
        (["--verbose"], "No such option"),
    ],
)
def test_wrong_usage_is_told(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err


def test_python_m_is_the_same_command() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "nanollama", "--version"], capture_output=True, text=True, check=True
    )
    assert finished.stdout == f"{nanollama.__version__}\n"


def test_help_answers_at_once() -> None:
    """``nanollama --help`` costs little more than starting Python and importing typer."""

    def cpu_seconds(*arguments: str) -> float:  # unlike those of a clock, the same on a busy machine
        seconds = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(seconds)

    assert cpu_seconds("-m", "nanollama", "--help") < 2 * cpu_seconds("-c", "import typer") + 0.1


def test_the_doctor_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "doctor")
    assert (code, err) == (0, "")
    for title in ("machine", "torch", "extras", "programs", "working directory"):
        assert f"\n{title}\n" in f"\n{out}"
    assert re.search(r"\n  cpu          \S+, fastest in (bfloat16|float32)\n", out)
    assert re.search(r"\n  dev          pytest [\d.]+", out)


def test_the_doctor_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", lambda package: None)
    assert "  visu         matplotlib missing: run `pip install 'nanollama[visu]'`\n" in doctor.examine()


def test_every_extra_that_a_message_names_exists() -> None:
    root = Path(__file__).parents[2]
    code = "".join(path.read_text(encoding="utf-8") for path in (root / "src").rglob("*.py"))
    extras = (root / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'MissingExtraError\("([^"]+)", "([^"]+)"\)', code)
    assert ("matplotlib", "visu") in named
    for package, extra in named:
        listed = package.replace("_", "[_-]")  # what is imported and what is installed may be spelt apart
        assert re.search(rf'^{extra} = \[.*"{listed}\b', extras, flags=re.MULTILINE), (package, extra)


def test_the_doctor_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    monkeypatch.setitem(sys.modules, "torch", None)
    text = doctor.examine()
    assert "  slurm        not found: runs start on this machine\n" in text
    assert "NOT writable" in text
    assert "cannot be imported" in text


@pytest.mark.usefixtures("checkout")
def test_studies_are_listed() -> None:
    assert studies.list_studies() == ["toy"]
    with pytest.raises(UserError, match="Unknown study 'os'"):
        studies.find_study("os")


def test_the_report_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "report", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: nanollama report")

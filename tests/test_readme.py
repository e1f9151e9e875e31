"""What the documents promise is there: commands, files, links. CI runs the commands themselves."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from nanollama.cli.command import main as nanollama
from nanollama.config import load_config

ROOT = Path(__file__).parents[1]
STUDIES = [f"apps/{study}/README.md" for study in ("memory", "composition", "gssm", "tying")]
COMMANDS = ["README.md", "docs/commands.md", "docs/troubleshooting.md", *STUDIES]
SITE = ["docs/api.md", "docs/configs.md", "docs/house.md", "docs/index.md", "tutorial/README.md"]
DOCUMENTS = [*COMMANDS, "CONTRIBUTING.md", "CHANGELOG.md", "LOG.md", "docs/glossary.md", *SITE]


def shell_lines() -> list[str]:
    """The README's commands, as CI runs them."""
    spec = importlib.util.spec_from_file_location("run_readme", ROOT / ".ci" / "run_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines: list[str] = module.shell_lines((ROOT / "README.md").read_text(encoding="utf-8"))
    return lines


TRAININGS = [line.split("#")[0].split()[3:] for line in shell_lines() if "apps.memory.train" in line]


def test_the_readme_starts_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = lines[lines.index("```sh") + 1 : lines.index("```")]
    assert len(first) == 2
    assert first[0].startswith("git clone ")
    assert first[1] == "make demo"


def test_ci_runs_neither_the_clone_nor_the_demo_of_the_readme() -> None:
    lines = shell_lines()
    assert len(TRAININGS) == 2
    assert not [line for line in lines if "git clone" in line or "make demo" in line]


@pytest.mark.parametrize("arguments", TRAININGS, ids=" ".join)
def test_configs_of_the_readme_are_valid(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.memory.settings import MemoryConfig

    monkeypatch.chdir(ROOT)
    assert load_config(MemoryConfig, arguments)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


@pytest.mark.parametrize("name", COMMANDS)
def test_modules_and_scripts_that_documents_name_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    modules = {found.replace(".", "/") for found in re.findall(r"-m (apps\.[a-z_.]+[a-z])", text)}
    scripts = set(re.findall(r"apps/[\w/]+\.(?:sh|yaml)", text))
    places = [(ROOT / f"{found}.py", ROOT / found / "__main__.py") for found in modules]
    assert not [place for place, folder in places if not (place.is_file() or folder.is_file())]
    assert not [found for found in scripts if not (ROOT / found).is_file()]


def test_folders_in_the_tree_of_the_readme_exist() -> None:
    trees = re.findall(r"^```\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    names = re.findall(r"(?<!\S)(?:[a-z_]+/)+(?:\w+\.\w+)?", trees[-1])
    assert "src/nanollama/training/" in names
    assert not [name for name in names if not (ROOT / name).exists()]


@pytest.mark.parametrize("study", ["memory", "composition", "gssm"])
def test_each_config_of_a_study_has_its_line(study: str) -> None:
    text = (ROOT / "apps" / study / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^## Configs$(.*?)^## ", text, re.M | re.S)
    assert table is not None
    rows = re.findall(r"^\| (`[^|]*) \|", table[1], re.M)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "apps" / study / "config").glob("*.yaml"))


@pytest.mark.slow
def test_the_example_of_the_readme_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert example is not None
    assert len([line for line in example[1].splitlines() if line]) <= 30
    monkeypatch.chdir(tmp_path)
    exec(example[1], {"__name__": "example"})
    share = re.search(r"(\d+)% of rows never seen", capsys.readouterr().out)
    assert share is not None
    assert int(share[1]) > 90


def test_the_example_of_gssm_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "apps" / "gssm" / "README.md").read_text(encoding="utf-8")
    example = re.search(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert example is not None
    exec(example[1], {})
    floor, rate, unigram, trigram = map(
        float, re.findall(r"(?:floor|rate|unigram|trigram) ([\d.]+)", capsys.readouterr().out)
    )
    assert abs(floor - rate) < 0.05
    assert floor < trigram < unigram


@pytest.mark.parametrize("name", ["README.md", "docs/commands.md"])
def test_verbs_of_the_documents_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    verbs = set(re.findall(r"`nanollama ([a-z-]+)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)))
    assert nanollama(["--help"]) == 0
    listed = capsys.readouterr().out
    assert {"chat", "doctor"} <= verbs
    assert not [verb for verb in verbs if f" {verb} " not in listed]


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert phony is not None
    command = ["make", "--no-print-directory", "help"]  # `make test` passes on that it names its directory
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = [line.split()[1] for line in finished.stdout.splitlines()]
    targets = ["help", "venv", "ask", "head", "demo", "test", "coverage", "check", "docs", "lessons", "bench"]
    targets.append("faults")
    assert listed[:-2] == targets
    assert sorted(phony[1].split()) == sorted(targets)
    assert listed[-2:] == ["data/model/final.pt", "venv/bin/python"]


def test_make_always_asks_the_program_of_tying(tmp_path: Path) -> None:
    for name in (".venv/.installed", "pyproject.toml", "constraints.txt", "data/model/final.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), "-o", ".venv/.installed", "data/model/final.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "-m apps.tying.train --dir data/model" in done.stdout


def test_every_extra_is_explained() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = re.findall(r"^(\w+) = \[", section, re.M)
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    assert "slurm" in extras and set(extras) == set(re.findall(r"^\| `(\w+)` \|", text, re.M))

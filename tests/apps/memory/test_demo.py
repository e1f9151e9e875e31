"""The demo: its arms, its whole way with tiny models, what is refused before anything is done."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from apps.memory import local_grid
from apps.memory.settings import MemoryConfig
from nanollama.config import load_config
from nanollama.launcher.plan import read_grid
from nanollama.report.runs import read_samples

ROOT = Path(__file__).parents[3]
CONFIGS = "apps/memory/config"
DEMO, QUICK = f"{CONFIGS}/demo.yaml", f"{CONFIGS}/demo_quick.yaml"
ARMS = {"arm-in-tool": "config_with_tool.yaml", "arm-in-weight": "config_without_tool.yaml"}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_trains_as_its_own_config_says(arm: str) -> None:
    """Only where it is, and how many people it is asked about, is the demo's."""
    own = load_config(MemoryConfig, [f"{CONFIGS}/{ARMS[arm]}"]).model_dump()
    of_demo = read_grid([DEMO]).find(arm).config.model_dump()
    differences = {key for key in own if own[key] != of_demo[key]}
    assert differences == {"name", "run_dir", "recall"}
    assert of_demo["recall"] == {**own["recall"], "n_people": 256}


def test_each_arm_is_judged_on_people_it_knows_and_people_it_does_not() -> None:
    plan = read_grid([DEMO])
    judged = {(claim.runs["arm"], claim.measure): claim.bound for claim in plan.expect}
    assert judged == {
        ("in-tool", "recall_trained"): ">= 0.99",
        ("in-tool", "recall_unseen"): ">= 0.95",
        ("in-weight", "recall_trained"): ">= 0.9",
        ("in-weight", "recall_unseen"): "<= 0.05",
    }
    assert plan.folder == Path("runs/demo")


def test_make_demo_hands_its_arguments_on() -> None:
    command = ["make", "--no-print-directory", "--dry-run", "demo", "ARGS=name=mine"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1].endswith(f"-m apps.memory.local_grid {DEMO} name=mine")


@pytest.mark.slow
def test_the_demo_goes_its_whole_way_and_does_nothing_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    argv = [QUICK, f"run_dir={folder}", f"data_root={tmp_path / 'data'}"]
    assert local_grid.main([*argv, "training.max_minutes=0.0001"]) == 75  # stopped: the same command goes on
    assert local_grid.main(argv) == 0
    out = capfd.readouterr().out
    for text in ("recall: unseen people", "people learned from", "bits stored per parameter"):
        assert text in out
    for arm in ("in-tool", "in-weight"):  # one dialog about a person it knows, one about a person it does not
        assert out.count(f"arm={arm}, ") == 2
        for who in ("trained person", "person never trained on"):
            assert f"arm={arm}, {who}, birth date: wrong" in out
    assert {path.name for path in folder.glob("[a-z]*")} == {
        *ARMS, "figures", "report.html", "results.csv", "table.csv", "table.md",
    }  # fmt: skip
    cells = [row.split("|") for row in (folder / "table.md").read_text(encoding="utf-8").splitlines()]
    assert [cell.strip() for cell in cells[0]] == ["", "", "in-tool", "in-weight", ""]
    assert [cell.strip() for cell in cells[6]] == ["", "people learned from", "64", "16", ""]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1  # recall as bars: after 20 steps none has changed, and no curve is drawn
    assert "person of a new name, birth date" in page
    assert (folder / "figures" / "recall.svg").is_file()
    titles = {dialog.title.partition(",")[0] for dialog in read_samples(folder / "arm-in-tool/dialogs.jsonl")}
    assert titles == {"trained person", "person never trained on", "person of a new name"}

    weights = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.safetensors"))
    missed = "{claim: all are known, runs: {arm: in-weight}, measure: recall_trained, at_least: 1}"
    assert local_grid.main([*argv, f"expect=[{missed}]"]) == 1  # 20 steps teach nobody anything
    assert "MISSED" in capfd.readouterr().out
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.safetensors")) == weights


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("training.n_step=7", "did you mean 'n_steps'?"),
        ("recall.n_people=165000", "leaves 161364 never shown"),
        ("grid.arms.in-tool={starts_from: in-weights}", "did you mean 'in-weight'?"),
        ("expect=[{claim: x, runs: {arm: nobody}, measure: recall_unseen, at_least: 0}]", "nobody"),
    ],
)
def test_wrong_input_is_told_before_anything_is_done(
    argument: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [DEMO, f"run_dir={tmp_path / 'demo'}", f"data_root={tmp_path / 'data'}", argument]
    assert local_grid.main(argv) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told
    assert not list(tmp_path.iterdir())

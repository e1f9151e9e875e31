"""The demo: its whole way with tiny models, its verdicts, its second run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from apps.memory import demo
from apps.memory.demo_report import Arm, Verdict, comparison_table, judge
from apps.memory.settings import DemoConfig, Expected
from nanollama.config import load_config
from nanollama.errors import UserError
from nanollama.report.runs import RunRecord, read_samples

ROOT = Path(__file__).parents[3]
DEMO = "apps/memory/config/demo.yaml"
QUICK = "apps/memory/config/demo_quick.yaml"
FILES = {"table.md", "table.csv", "index.html", "log.txt"} | {
    f"{name}.{suffix}" for name in ("recall", "learning_curves") for suffix in ("svg", "pdf", "png")
}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
def test_the_demo_goes_its_whole_way_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [QUICK, f"run_dir={tmp_path / 'demo'}", f"data_root={tmp_path / 'data'}"]
    assert demo.main(argv) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "demo"
    assert {path.name for path in folder.iterdir()} == FILES | {"with_tool", "without_tool"}
    assert "recall: unseen people" in out
    assert "in-tool, person never trained on" in out
    assert err.count("as expected:") == 4
    assert str(folder / "index.html") in err
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 5
    assert (folder / "table.md").read_text(encoding="utf-8").startswith("|")
    dialogs = read_samples(folder / "with_tool" / "dialogs.jsonl")
    assert {dialog.title.partition(",")[0] for dialog in dialogs} == {
        "trained person",
        "person never trained on",
        "person of a new name",
    }

    examined = (folder / "with_tool" / "examination.json").read_bytes()
    weights = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.safetensors"))
    assert demo.main([*argv, "expected.in_weight_trained=1"]) == 1  # 20 steps teach nobody anything
    err = capsys.readouterr().err
    assert "examined before" in err
    assert "MISSED: recall of in-weight, trained people: expected at least 1, got 0.0000" in err
    assert (folder / "with_tool" / "examination.json").read_bytes() == examined
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.safetensors")) == weights


def test_both_arms_live_in_the_demos_folder(tmp_path: Path) -> None:
    config = load_config(DemoConfig, [DEMO, f"run_dir={tmp_path}", "data_root=elsewhere"])
    arm = config.arm(config.in_tool, "with_tool")
    assert arm.folder == tmp_path / "with_tool"
    assert arm.data_root == Path("elsewhere")
    assert arm.data.uses_tool
    assert not config.arm(config.in_weight, "without_tool").data.uses_tool


def test_keys_of_an_arm_change_its_config() -> None:
    config = load_config(
        DemoConfig, [DEMO, "in_tool.keys=[training.n_steps=7, training.optimizer.warmup_steps=1]"]
    )
    assert config.arm(config.in_tool, "with_tool").training.n_steps == 7


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["in_tool.keys=[training.n_step=7]"], "did you mean 'n_steps'?"),
        (["in_tool.config=none.yaml"], "none.yaml: no such file"),
        (["n_people=100"], "people, but the demo's n_people is 100"),
        (["recall.sets=[trained]"], "the demo compares all three sets"),
    ],
)
def test_a_wrong_config_is_told_before_anything_is_done(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert demo.main([DEMO, f"run_dir={folder}", f"data_root={tmp_path / 'data'}", *argv]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_few_people_name_the_numbers() -> None:
    config = load_config(DemoConfig, [DEMO, "n_people=1100", "in_tool.keys=[data.n_people=101]"])
    with pytest.raises(
        UserError, match=r"data\.n_people = 101 .* 1101 people, but the demo's n_people is 1100"
    ):
        config.arm(config.in_tool, "with_tool")


def test_the_demos_own_config_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["name=mine", "--dry-run"]) == 0
    assert "name: mine\n" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("not a folder")
    assert demo.main([f"run_dir={tmp_path}/runs/demo"]) == 2
    assert capsys.readouterr().err == (
        f"Cannot write {tmp_path}/runs/demo/log.txt: Not a directory; "
        "name a folder that can be written to as run_dir=DIR.\n"
    )


def arm(name: str, trained: float, unseen: float) -> Arm:
    """An arm with nothing but its measures."""
    file = "config_with_tool.yaml" if name == "in-tool" else "config_without_tool.yaml"
    config = load_config(DemoConfig, [DEMO])
    settings = config.in_tool if name == "in-tool" else config.in_weight
    assert settings.config.name == file
    measures = {}
    for key, value in (("trained", trained), ("unseen", unseen), ("new_names", unseen)):
        measures |= {
            f"recall_{key}": value,
            f"recall_{key}_low": value - 0.01,
            f"recall_{key}_high": value + 0.01,
        }
    run = RunRecord(name, Path(name), "", {}, {}, [], [], {"n_params": 1000, "seconds": 12.5}, [])
    return Arm(name, config.arm(settings, name), run, measures | {"bits_per_parameter": 0.5})


@pytest.mark.parametrize(
    ("in_tool", "in_weight", "holds"),
    [
        ((0.99, 0.95), (0.90, 0.05), [True, True, True, True]),
        ((0.9899, 0.9499), (0.8999, 0.0501), [False, False, False, False]),
        ((1.0, 0.5), (1.0, 0.0), [True, False, True, True]),
    ],
)
def test_each_expectation_has_its_verdict(
    in_tool: tuple[float, float], in_weight: tuple[float, float], holds: list[bool]
) -> None:
    verdicts = judge(Expected(), [arm("in-tool", *in_tool), arm("in-weight", *in_weight)])
    assert [verdict.holds for verdict in verdicts] == holds


def test_a_verdict_says_what_was_expected_and_what_came() -> None:
    said = str(Verdict("in-tool, unseen people", "at least 0.95", 0.5, False))
    assert said == "MISSED: recall of in-tool, unseen people: expected at least 0.95, got 0.5000"


def test_the_table_has_a_column_for_each_model() -> None:
    table = comparison_table([arm("in-tool", 1.0, 0.97), arm("in-weight", 0.95, 0.0)])
    cells = {row[0]: row[1:] for row in table.rows}
    assert cells["recall: unseen people"] == ("0.970 [0.960, 0.980]", "0.000 [-0.010, 0.010]")
    assert cells["bits stored per parameter"] == ("-", "0.5")
    assert cells["parameters"] == ("1,000", "1,000")


def test_the_examination_is_made_anew_for_another_config(tmp_path: Path) -> None:
    """What is kept names what it was made with."""
    kept = {"config_hash": "x", "recall": {}, "measures": {}}
    (tmp_path / demo.EXAMINATION).write_text(json.dumps(kept))
    config = load_config(DemoConfig, [DEMO, f"run_dir={tmp_path}"])
    assert (
        demo.kept_examination(tmp_path, demo.examined_with(config, config.arm(config.in_tool, "a"))) is None
    )
    assert demo.kept_examination(tmp_path, {"config_hash": "x", "recall": {}}) == {}

"""Runs as a list: what it shows, what is chosen, what is found damaged, what is removed and what is not."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from nanollama.cli import delete as delete_module
from nanollama.cli.command import main as nanollama
from nanollama.monitor.checkpoint import fingerprint
from nanollama.monitor.run_folder import is_held
from nanollama.watch.watched import Watched


def write_run(folder: Path, d_model: int, recall: float, status: str = "finished") -> Path:
    folder.mkdir(parents=True)
    config = {"study": "toy", "name": folder.name, "model": {"d_model": d_model}, "overwrite": False}
    config |= {"training": {"seed": 0, "batch_size": 64}, "recall": {"batch_size": 8}}
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 10, "loss": 1 / d_model}) + "\n")
    row = {"step": 10, "recall": recall, "recall_low": recall - 0.1, "recall_high": recall + 0.1}
    (folder / "evals.jsonl").write_text(json.dumps(row) + "\n")
    if status:
        (folder / "result.json").write_text(json.dumps({"status": status, "step": 10}))
    step = folder / "checkpoints" / "step_00000010"
    step.mkdir(parents=True)
    (step / "model.safetensors").write_bytes(bytes(d_model))
    for name in ("optimizer.pt", "state.json"):
        (step / name).write_text("{}")
    files = {path.name: fingerprint(path) for path in step.iterdir()}
    manifest = {"version": 1, "step": 10, "files": files, "config_hash": "x"}
    (step / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def three(tmp_path: Path) -> Path:
    write_run(tmp_path / "small", 16, 0.25)
    write_run(tmp_path / "grid" / "large", 64, 0.75)
    write_run(tmp_path / "grid" / "stopped", 64, 0.5, status="")
    return tmp_path


def listed(three: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert nanollama(["runs", "list", str(three), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [name for line in lines for name in ("small", "large", "stopped") if f"/{name} " in f"{line} "]


def test_the_list_has_states_sizes_measures_and_what_differs(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nanollama(["runs", "list", str(three)]) == 0
    out = capsys.readouterr().out
    (large,) = [line for line in out.splitlines() if "large" in line]
    assert large.split()[1:3] == ["finished", "10"]
    assert "0.750 [0.650, 0.850]" in large and large.split()[-1] == "64"
    assert out.splitlines()[-1].startswith("3 runs of 3, ")
    assert "seed" not in out


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.yaml", "a: &x [*x]", True),
        ("config.yaml", "n: " + "9" * 5000, True),
        ("evals.jsonl", "nonsense\n", True),
        ("metrics.jsonl", "[" * 5_000 + "\n", True),
        ("result.json", "[" * 100_000, False),
    ],
)
def test_a_damaged_run_hides_no_other(
    three: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, told: bool
) -> None:
    (three / "small" / name).write_text(("\n" if name == "metrics.jsonl" else "") + text)
    assert nanollama(["runs", "list", str(three)]) == 0
    out = capsys.readouterr().out
    assert all(f"/{run} " in out for run in ("small", "large", "stopped"))
    damaged = [line for line in out.splitlines() if line.startswith("damaged  ")]
    assert len(damaged) == told and all(f"small/{name}" in line for line in damaged)
    assert listed(three, capsys, "--where", "recall>0.6") == ["large"]


def test_runs_of_several_studies_are_told_apart_by_their_study_alone(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = three / "small" / "config.yaml"
    config.write_text(config.read_text().replace('"toy"', '"other"'))
    assert nanollama(["runs", "list", str(three)]) == 0
    head, *_, last = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert head.split() == ["run", "state", "step", "MB", "loss", "study"]
    assert last.startswith("--where study=other shows")
    assert nanollama(["runs", "list", str(three), "--where", "study=toy"]) == 0
    assert "recall" in capsys.readouterr().out


def test_a_run_that_stopped_between_two_rows_is_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", 16, 0.25)
    (run / "result.json").write_text(json.dumps({"status": "preempted", "step": 13}))
    assert nanollama(["runs", "list", str(tmp_path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "stopped" in line]
    assert line.split()[1:3] == ["stopped", "13"]
    watched = Watched([run])
    watched.refresh()
    assert watched.state()["runs"][0]["step"] == 13


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("model.d_model=64", ["large", "stopped"]),
        ("d_model = 16", ["small"]),
        ("d_model!=64", ["small"]),
        ("recall>0.25", ["large", "stopped"]),
        ("recall>=0.75", ["large"]),
        ("loss<0.05", ["large", "stopped"]),
        ("state=stopped", ["stopped"]),
        ("recall<=0", []),
        ("MB<0.1", ["large", "stopped", "small"]),
    ],
)
def test_conditions_choose(
    three: Path, condition: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert listed(three, capsys, "--where", condition) == names


def test_a_whole_name_is_exact(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = three / "small" / "config.yaml"
    config.write_text(json.dumps({**json.loads(config.read_text()), "batch_size": 3}))
    assert listed(three, capsys, "--where", "batch_size=3") == ["small"]
    assert listed(three, capsys, "--where", "name!=nobody") == ["large", "stopped", "small"]


def test_the_list_is_sorted_by_a_name(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(three, capsys, "--sort", "recall") == ["small", "stopped", "large"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "recall"], "cannot be read: expected NAME=VALUE"),
        (["--where", "recall>"], "cannot be read: expected NAME=VALUE"),
        (["--where", "precision>1"], "No run has 'precision'"),
        (["--sort", "precision"], "No run has 'precision'"),
        (["--sort", "batch_size"], "'batch_size' may be recall.batch_size or training.batch_size: write one"),
        (["--where", "batch_size=64"], "may be recall.batch_size or training.batch_size"),
        (["--where", "training.batch_size<many"], "compares numbers: expected one, got 'many'"),
    ],
)
def test_a_condition_about_nothing_is_refused(
    three: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nanollama(["runs", "list", str(three), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_differences_are_those_of_configs_beside_the_measures(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nanollama(["runs", "compare", str(three)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model.d_model", "64", "64", "16"] in lines
    assert not any("training.seed" in line for line in lines)
    assert nanollama(["runs", "compare", str(three / "small")]) == 2


def test_a_changed_checkpoint_is_found(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nanollama(["runs", "verify", str(three)]) == 0
    assert "3 checkpoints as they were written, 0 damaged" in capsys.readouterr().out
    (three / "small" / "checkpoints" / "step_00000010" / "model.safetensors").write_bytes(b"\1" * 16)
    assert nanollama(["runs", "verify", str(three)]) == 1
    out = capsys.readouterr().out
    assert "SHA-256 differs" in out and "2 checkpoints as they were written, 1 damaged" in out


def test_a_damaged_checkpoint_is_found_however_deep_its_run_lies(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = write_run(three.joinpath(*"abcdefgh"), 16, 0.5)
    (deep / "checkpoints" / "step_00000010" / "model.safetensors").write_bytes(b"other")
    assert nanollama(["runs", "verify", str(three)]) == 1
    assert "3 checkpoints as they were written, 1 damaged" in capsys.readouterr().out


def test_what_a_run_left_is_removed_and_nothing_else(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (three / "small" / "notes.txt").write_text("mine")
    disk = three / "disk"
    (three / "grid" / "stopped" / "checkpoints").rename(disk)
    (three / "grid" / "stopped" / "checkpoints").symlink_to(disk)
    names = [str(three / name) for name in ("small", "grid/stopped")]
    assert nanollama(["runs", "delete", *names]) == 2
    assert "There is nobody to ask: say --yes" in capsys.readouterr().err
    monkeypatch.setattr(delete_module.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "")
    assert nanollama(["runs", "delete", *names]) == 0
    assert (three / "small" / "config.yaml").exists()
    assert nanollama(["runs", "delete", *names, "--yes"]) == 0
    assert "left there: notes.txt" in capsys.readouterr().out
    assert [path.name for path in (three / "small").iterdir()] == ["notes.txt"]
    assert not (three / "grid" / "stopped").exists() and not list(disk.iterdir())
    assert (three / "grid" / "large" / "config.yaml").exists()


def test_no_text_of_a_run_steers_the_terminal(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steering = "\x1b]0;owned\x07"
    row = {"step": 10, f"recall{steering}": 1, f"recall{steering}_low": 0, f"recall{steering}_high": 1}
    (three / "small" / "evals.jsonl").write_text(json.dumps(row) + "\n")
    manifest = three / "small" / "checkpoints" / "step_00000010" / "manifest.json"
    manifest.write_text(json.dumps({"version": steering, "files": {}, "config_hash": ""}))
    (three / "grid" / f"bad{steering}").mkdir()
    for verb, code in (("list", 0), ("compare", 0), ("verify", 1)):
        assert nanollama(["runs", verb, str(three)]) == code
    assert nanollama(["runs", "delete", "--yes", str(three / "grid" / f"bad{steering}")]) == 2
    assert "\x1b" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "evals.jsonl", "result.json"])
def test_a_link_to_elsewhere_or_a_pipe_is_told_and_hides_no_other(
    three: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in (three / "grid" / "large", three / "small"):
        (run / name).rename(three / f"{run.name}-{name}")
        (run / name).symlink_to(three / f"{run.name}-{name}")
    (three / "small" / name).unlink()
    os.mkfifo(three / "small" / name)
    assert nanollama(["runs", "list", str(three)]) == 0
    out = capsys.readouterr().out
    assert f"large/{name} leads out of" in out and "/stopped " in out
    assert f"small/{name} is no plain file" in out or name == "config.yaml"  # which then is no run


def test_where_checkpoints_that_are_a_link_lie_is_told_before_they_go(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, small = three / "disk" / "checkpoints", three / "small"
    disk.parent.mkdir()
    (small / "checkpoints").rename(disk)
    (small / "checkpoints").symlink_to(disk)
    asked = []

    def answer(question: str) -> str:
        asked.append(question)
        return "yes"

    monkeypatch.setattr(delete_module.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    assert nanollama(["runs", "delete", str(small)]) == 0
    assert f"with checkpoints/ in {disk}\n" in capsys.readouterr().out
    assert asked == [f"Remove 1 run, and the checkpoints in {disk}, for ever? [y/N] "]
    assert not small.exists() and not list(disk.iterdir())


def test_checkpoints_of_another_run_are_not_removed(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, theirs = three / "grid" / "large" / "checkpoints", three / "small" / "checkpoints"
    shutil.rmtree(theirs)
    theirs.symlink_to(mine)
    assert nanollama(["runs", "delete", "--yes", str(three / "small")]) == 2
    assert f"is a link into the folder of another run, {mine.parent}" in capsys.readouterr().err
    theirs.unlink()
    theirs.mkdir()
    for name in ("step_00000010", ".step_00000011.new"):
        (theirs / name).symlink_to(mine / "step_00000010")
    assert nanollama(["runs", "delete", "--yes", str(three / "small")]) == 0
    assert not (three / "small").exists() and len(list((mine / "step_00000010").iterdir())) == 4


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"files": {}}', '{"files": {"model.safetensors": 1}}'],
)
def test_a_damaged_manifest_hides_no_other_checkpoint(
    three: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = three / "grid" / "large" / "checkpoints" / "step_00000010" / "manifest.json"
    kept = {"version": 1, "step": 10, "config_hash": "x"}
    manifest.write_text(text if text[0] == "[" else json.dumps({**kept, **json.loads(text)}))
    assert nanollama(["runs", "verify", str(three)]) == 1
    assert "2 checkpoints as they were written, 1 damaged" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["config.yaml", "launch.yaml"])
@pytest.mark.parametrize("text", ["lr: 1\n", "study: mine\nmodel: {size: 1}\n", "a: [\n"])
def test_a_folder_with_a_config_of_another_program_is_no_run_to_be_removed(
    tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "project"
    for path in (folder / "model" / "weights.bin", folder / "log.txt", folder / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "environment.json").write_text('{"versions": {"python": "3"}}')
    assert nanollama(["runs", "delete", "--yes", str(folder)]) == 2
    told = capsys.readouterr().err
    assert "is not the folder of a run" in told and "that no run wrote" in told
    there = ["environment.json", "log.txt", "model", "weights.bin", name]
    assert sorted(path.name for path in folder.rglob("*")) == sorted(there)


def test_folders_that_a_run_did_not_make_stay_and_those_that_go_are_named(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = three / "small", three / "grid" / "large"
    for name in ("model/mine.txt", "tokenizer/mine.txt", "checkpoints/mine.txt", "track/events"):
        for run in (small, large):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_text("x")
    config = json.loads((large / "config.yaml").read_text())
    config["model"] = {"implementation": "hugging_face", "path": None}
    (large / "config.yaml").write_text(json.dumps(config))
    assert nanollama(["runs", "delete", str(small), str(large)]) == 2
    of_small, of_large = capsys.readouterr().out.splitlines()
    assert of_small.endswith("MB, with checkpoints/, track/")
    assert of_large.endswith("MB, with checkpoints/, track/, model/")
    assert nanollama(["runs", "delete", "--yes", str(small), str(large)]) == 0
    out = capsys.readouterr().out
    assert (
        "left there: checkpoints, model, tokenizer\n" in out and "left there: checkpoints, tokenizer\n" in out
    )
    assert [path.name for path in (small / "checkpoints").iterdir()] == ["mine.txt"]
    assert (small / "model" / "mine.txt").exists() and not (small / "track").exists()


def test_a_folder_of_runs_or_a_run_at_work_is_not_removed(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nanollama(["runs", "delete", "--yes", str(three / "small"), str(three / "grid")]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    with open(three / "small" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert nanollama(["runs", "delete", "--yes", str(three / "small")]) == 2
    assert "A run is at work" in capsys.readouterr().err
    assert (three / "small" / "config.yaml").exists()


def test_a_run_that_begins_while_the_question_stands_stays(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [three / "small", three / "grid" / "large"]
    with open(names[0] / ".lock", "w") as lock:

        def begin_and_say_yes(_: str) -> str:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return "yes"

        monkeypatch.setattr(delete_module.sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr("builtins.input", begin_and_say_yes)
        assert nanollama(["runs", "delete", *map(str, names)]) == 1
    assert f"left {names[0]}: a run is at work" in capsys.readouterr().out
    assert (names[0] / "checkpoints" / "step_00000010").is_dir() and not names[1].exists()


def test_no_run_can_begin_while_it_is_removed(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    def begin(path: Path) -> None:
        with open(three / "small" / ".lock", "a") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert is_held(three / "small") is False
        removed.append(path)

    monkeypatch.setattr(shutil, "rmtree", begin)
    nanollama(["runs", "delete", "--yes", str(three / "small")])
    assert removed


def test_a_folder_that_may_not_be_entered_hides_no_other(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def stat_if_open(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if "/small/" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat_if_open)
    assert listed(three, capsys) == ["large", "stopped"]
    assert {run.folder.name for run in Watched([three]).runs} == {"large", "stopped"}


@pytest.mark.parametrize("is_asked_before", [False, True])
def test_files_that_go_while_they_are_counted_stop_nothing(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_asked_before: bool
) -> None:
    stat = os.stat

    def stat_late(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        found = stat(path, *arguments, **options) if is_asked_before else None
        if str(path).endswith("small/checkpoints/step_00000010/model.safetensors"):
            Path(path).unlink(missing_ok=True)
        return found or stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat_late)
    assert listed(three, capsys, "--where", "MB>0") != []


def test_a_run_that_is_named_twice_is_removed_once(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{three}/small", f"{three}/grid/../small/", f"{three}/grid/large"]
    assert nanollama(["runs", "delete", "--yes", *names]) == 0
    assert capsys.readouterr().out.count("removed") == 2
    assert not (three / "small").exists() and not (three / "grid" / "large").exists()


def test_the_folder_that_one_is_in_is_removed_and_what_comes_after_it(
    three: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(three / "small")
    assert nanollama(["runs", "delete", "--yes", ".", "../grid/large"]) == 0
    monkeypatch.chdir(three)
    assert capsys.readouterr().out.splitlines()[-2:] == ["removed .", "removed ../grid/large"]
    assert not (three / "small").exists() and not (three / "grid" / "large").exists()


@pytest.mark.parametrize("command", [["runs", "list"], ["runs", "delete", "--yes"], ["report"]])
def test_a_name_that_no_folder_can_have_is_of_none(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert nanollama([*command, f"{tmp_path}/{'x' * 300}"]) == 2
    assert "no such file or folder" in capsys.readouterr().err

"""Reading run folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from report_runs import EVIL, sample_dialog, write_run

from nanollama.errors import UserError
from nanollama.report.runs import DIALOGS, SampleDialog, read_run, read_runs, read_samples, write_samples
from nanollama.tokenizer import Message


def test_a_run_is_read_whole(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "one", recall=0.5, dialogs=[sample_dialog()]))
    assert run.name == "one"
    assert run.config["model"] == {"d_model": 32}
    assert run.config_text.startswith("study: memory\n")
    assert len(run.metrics) == 10
    assert run.evals[-1]["recall_trained"] == 0.5
    assert run.result["n_params"] == 39788
    assert run.dialogs == [sample_dialog()]


def test_an_unfinished_run_has_no_result(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "one", finished=False)).result == {}


def test_runs_of_one_name_are_told_apart_by_their_path(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / parent / "debug") for parent in ("a", "b")]
    folders.append(write_run(tmp_path / "other"))
    assert [run.name for run in read_runs(folders)] == [str(folders[0]), str(folders[1]), "other"]


def test_a_run_given_twice_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    with pytest.raises(UserError, match="given twice"):
        read_runs([folder, tmp_path / "one" / ".." / "one"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", "- a list\n", "config.yaml: expected keys and values"),
        ("config.yaml", "a: [\n", "config.yaml:2:1: is not valid YAML"),
        ("config.yaml", "n: " + "9" * 5000, "config.yaml:1: the value '9.*cannot be read"),
        ("config.yaml", "a: &x [*x]\n", "config.yaml:1: YAML aliases"),
        ("config.yaml", "a: &x {b: *x}\n", "config.yaml:1: YAML aliases"),
        ("config.yaml", "a: " + "[" * 1500, "config.yaml: is nested too deeply"),
        ("config.yaml", "a: !!bool x\n", "config.yaml:1: the value 'x' cannot be read"),
        ("config.yaml", 'a: "\\UFFFFFFFF"\n', "config.yaml: is not valid YAML"),
        ("result.json", "{", "result.json is not a JSON object"),
        ("result.json", "[" * 100_000, "result.json is not a JSON object"),
        ("environment.json", "[]", "environment.json is not a JSON object"),
        ("metrics.jsonl", "{}\n", "metrics.jsonl:1 is not a JSON object with an integer `step`"),
        (DIALOGS, '{"title": "a"}\n', "dialogs.jsonl:1 is not a dialog"),
        (DIALOGS, "[1]\n", "dialogs.jsonl:1 is not a dialog"),
        (DIALOGS, "[" * 100_000 + "\n", "dialogs.jsonl:1 is not a dialog"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = write_run(tmp_path / "one")
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_run(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a,b\n" + "x" * 200_000 + ",1\n",
            r"by_position\.csv is not a table \(field larger .*\): remove",
        ),
        ("\n1,2\n", r"by_position\.csv begins with a blank line, expected names of columns: mend it"),
    ],
)
def test_a_table_of_an_examination_that_is_none_is_named(tmp_path: Path, content: str, message: str) -> None:
    folder = write_run(tmp_path / "one")
    path = folder / "evaluations" / "step_00000100" / "by_position.csv"
    path.parent.mkdir(parents=True)
    path.write_text("position,nats\n1,0.5\n\n")
    (found,) = read_run(folder).examinations
    assert found.tables == {"by_position": [["position", "nats"], ["1", "0.5"], []]}
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_run(folder)


def test_a_date_in_a_config_is_a_text_as_for_who_runs_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    (folder / "config.yaml").write_text("when: 2024-13-45\n")
    assert read_run(folder).config == {"when": "2024-13-45"}


def test_aliases_that_name_more_than_any_memory_holds_are_refused_at_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 6)]
    (folder / "config.yaml").write_text("\n".join(["a0: &a0 [0]", *lines]))
    with pytest.raises(UserError, match=r"config\.yaml:1: YAML aliases"):
        read_run(folder)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evals.jsonl", "environment.json", "result.json", DIALOGS])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "one")
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} cannot be read \(Is a directory\), expected a file"):
        read_run(folder)


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "evals.jsonl", "result.json", DIALOGS, "evaluations/a/b.csv"]
)
def test_what_lies_elsewhere_is_not_shown(tmp_path: Path, name: str) -> None:
    folder, secret = write_run(tmp_path / "one"), tmp_path / "id_rsa"
    (folder / "evaluations" / "a").mkdir(parents=True)
    secret.write_text((folder / name).read_text() if (folder / name).exists() else "")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(UserError, match=rf"{name} leads out of {folder}: it is not read; put a copy"):
        read_run(folder)


def test_an_examination_that_lies_elsewhere_is_not_shown(tmp_path: Path) -> None:
    folder, other = write_run(tmp_path / "one"), tmp_path / "other"
    for path in (folder / "evaluations", other):
        path.mkdir()
    (other / "secret.csv").write_text("a,b\n")
    (folder / "evaluations" / "a").symlink_to(other)
    with pytest.raises(UserError, match=r"evaluations/a/\S+ leads out of"):
        read_run(folder)


def test_a_run_that_is_a_link_is_read_and_links_within_it_too(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "disk" / "one")
    (folder / "metrics.jsonl").rename(folder / "rows")
    (folder / "metrics.jsonl").symlink_to("rows")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert read_run(tmp_path / "link" / "one").metrics


@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", DIALOGS])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "one")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(UserError, match=rf"{name} is no plain file"):
        read_run(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.yaml; expected the folder of a run"):
        read_run(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_run(tmp_path / "none")


def test_dialogs_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Whatever a model writes: line separators of all kinds, quotes, half of a surrogate pair."""
    said = f"a\nb\r\nc\u2028d\x85e\x00 {EVIL} \ufffd"
    dialogs = [SampleDialog("t", said, False, (Message("user", said), Message("assistant", "")))]
    path = tmp_path / DIALOGS
    write_samples(path, dialogs)
    assert read_samples(path) == dialogs


def test_no_file_means_no_dialogs(tmp_path: Path) -> None:
    assert read_samples(tmp_path / DIALOGS) == []

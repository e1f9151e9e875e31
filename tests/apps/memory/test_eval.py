"""The examination of a checkpoint: what it shows, what it writes, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_run import toy_config, toy_model, write_run

from apps.memory.eval import main
from apps.memory.recall import RecallEvaluator
from apps.memory.settings import EvalConfig, MemoryConfig
from nanollama.config import load_config
from nanollama.errors import UserError
from nanollama.report.runs import read_samples
from nanollama.training.trained import load_run

EVAL_YAML = Path(__file__).parents[3] / "apps/memory/config/eval.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learned two people by heart; not to be changed."""
    config = toy_config(tmp_path_factory.mktemp("finished"), "qa")
    model = toy_model(config, 100)
    write_run(config, toy_model(config), step=50)
    return write_run(config, model, step=100)


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def eval_yaml(tmp_path: Path, run_folder: Path) -> str:
    path = tmp_path / "eval.yaml"
    path.write_text(f"study: memory\nrun: {run_folder}\ndevice: cpu\nrecall:\n  n_people: 2\n")
    return str(path)


def folders(run_folder: Path) -> list[str]:
    return sorted(path.name for path in (run_folder / "evaluations").iterdir())


def contents(run_folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in (run_folder / "evaluations").rglob("*") if path.is_file()
    }


def test_the_newest_checkpoint_is_examined(
    eval_yaml: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([eval_yaml]) == 0
    said, warned = capsys.readouterr()
    table = " ".join(said.split())
    assert "step 100: shares of right answers [95 % intervals, people as the unit]." in table
    assert "recall 1.000 [0.158, 1.000] 0." in table
    assert "birth_place 1.000 [0.158, 1.000] 0." in table
    assert "bits a fact" in said and "asked the database" not in said
    assert warned == ""
    (name,) = folders(run_folder)
    assert name.startswith("step_00000100_")
    assert said.endswith(f"wrote {run_folder}/evaluations/{name}\n")


def test_what_is_written(eval_yaml: str, run_folder: Path) -> None:
    assert main([eval_yaml]) == 0
    (folder,) = (run_folder / "evaluations").iterdir()
    result = json.loads((folder / "result.json").read_text())
    manifest = json.loads((run_folder / "checkpoints/step_00000100/manifest.json").read_text())
    assert result["step"] == 100
    assert result["weights_sha256"] == manifest["files"]["model.safetensors"]["sha256"]
    assert result["metrics"]["recall_trained"] == 1.0
    assert len(result["rows"]) == 3 * 5
    rows = {(row["set"], row["attribute"]): row for row in result["rows"]}
    first = rows["trained", "all"]
    assert (first["n_prompts"], first["n_right"], first["recall_high"]) == (8, 8, 1.0)
    assert rows["unseen", "birth_date"]["n_prompts"] == 2
    dialogs = read_samples(folder / "dialogs.jsonl")
    assert len(dialogs) == 24
    assert sum(dialog.is_right for dialog in dialogs) == sum(
        row["n_right"] for row in result["rows"] if row["attribute"] == "all"
    )
    assert dialogs[0].title == "trained, birth_date" and dialogs[0].messages[-1].content.endswith(
        f"{dialogs[0].expected}."
    )
    assert load_config(EvalConfig, [str(folder / "config.yaml")]) == load_config(EvalConfig, [eval_yaml])


def test_the_same_again_changes_nothing_and_another_config_overwrites_nothing(
    eval_yaml: str, run_folder: Path
) -> None:
    assert main([eval_yaml]) == 0
    first = contents(run_folder)
    assert main([eval_yaml]) == 0
    assert contents(run_folder) == first
    assert main([eval_yaml, "recall.seed=1"]) == 0
    assert main([eval_yaml, f"run={run_folder}/checkpoints/step_00000050"]) == 0
    assert len(folders(run_folder)) == 3
    assert first.items() <= contents(run_folder).items()


def test_a_checkpoint_can_be_named(
    eval_yaml: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([eval_yaml, f"run={run_folder}/checkpoints/step_00000050"]) == 0
    assert "step 50: shares" in " ".join(capsys.readouterr().out.split())


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    eval_yaml: str, run_folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (run_folder / "checkpoints/step_00000100/model.safetensors").write_bytes(b"x")
    assert main([eval_yaml]) == 0
    assert "step 50: shares" in " ".join(capsys.readouterr().out.split())
    assert "Skipped the checkpoint" in caplog.text


def test_the_database_can_be_another_one(tmp_path: Path) -> None:
    config = toy_config(tmp_path, recall={"n_people": 1})
    folder = write_run(config, toy_model(config))
    path = tmp_path / "eval.yaml"
    path.write_text(f"study: memory\nrun: {folder}\nrecall: {{n_people: 1, sets: [trained]}}\n")
    assert main([str(path), f"data_root={tmp_path}/other", "database.limits.max_reply_bytes=50"]) == 0
    assert (tmp_path / "other/memory/people.sqlite").is_file()
    assert not (tmp_path / "data").exists()


def remove(path: str) -> Callable[[Path], object]:
    return lambda folder: shutil.rmtree(folder / path)


def spoil(step: int) -> Callable[[Path], object]:
    return lambda folder: (folder / f"checkpoints/step_{step:08d}/optimizer.pt").write_bytes(b"")


def narrow(folder: Path) -> None:
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("d_model: 32", "d_model: 16"))


def other_study(folder: Path) -> None:
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("study: memory", "study: gssm"))


@pytest.mark.parametrize(
    ("spoiled", "keys", "message"),
    [
        (
            lambda folder: None,
            ["run=runs/nowhere"],
            "There is no run folder runs/nowhere: train it first, "
            "`nanollama train CONFIG run_dir=runs/nowhere`.",
        ),
        (
            lambda folder: None,
            ["run=runs/debug"],
            "There is no run folder runs/debug: train it first, "
            "`nanollama train apps/memory/config/debug.yaml`.",
        ),
        (remove("checkpoints"), [], "{run} holds no checkpoint yet: train it first, `nanollama train"),
        (
            lambda folder: (folder / "config.yaml").unlink(),
            [],
            "{run} is not a run folder: it holds no config",
        ),
        (lambda folder: [spoil(50)(folder), spoil(100)(folder)], [], "{run} holds no intact checkpoint"),
        (spoil(50), ["run={run}/checkpoints/step_00000050"], "step_00000050 is damaged: optimizer.pt has 0"),
        (narrow, [], "step_00000100 does not fit the model of {run}/config.yaml: size mismatch for"),
        (other_study, [], "{run} is a run of the study 'gssm', not of 'memory'."),
        (lambda folder: None, ["recall.max_new_tokens=5"], "recall.max_new_tokens = 5 is too small"),
        (lambda folder: None, ["recall.n_people=169555"], "leaves 169554 never shown."),
        (lambda folder: None, ["device=cuda:7"], "The device cuda:7 needs GPU number 7"),
        (lambda folder: None, ["devise=cpu"], "did you mean 'device'?"),
    ],
)
def test_refusals(
    spoiled: Callable[[Path], object],
    keys: list[str],
    message: str,
    eval_yaml: str,
    run_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    checkout = tmp_path_factory.mktemp("checkout")  # without runs; the real one may hold a trained runs/debug
    (checkout / "apps").symlink_to(Path("apps").absolute())
    monkeypatch.chdir(checkout)
    spoiled(run_folder)
    assert main([eval_yaml, *(key.format(run=run_folder) for key in keys)]) == 2
    said = capsys.readouterr().err
    assert message.format(run=run_folder) in said
    assert "Traceback" not in said and said.count("\n") == 1
    assert not (run_folder / "evaluations").exists()


@pytest.mark.parametrize(
    ("data", "keys", "message"),
    [
        ({"dependence": {"alpha": 0.5}}, [], "data.dependence is for sources of kind qa or qatool and"),
        ({"dependence": {"alpha": 0.5}}, ["recall.sets=[new_names]"], "data.dependence is for sources"),
        ({}, ["recall.sets=[sums_unseen]"], "recall.sets: 'sums_unseen' needs a source of kind sums"),
        ({"language": "sql"}, ["database.url=sqlite:///x"], "data.language = sql needs the SQLite database"),
    ],
)
def test_what_the_run_did_not_learn_is_not_examined(
    data: dict[str, object],
    keys: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    learned = {"n_people": 2, "sources": [{"kind": "qa"}], **data}
    config = toy_config(tmp_path, data=learned, recall={"n_people": 2, "sets": ["trained"]})
    folder = write_run(config, toy_model(config))
    path = tmp_path / "eval.yaml"
    path.write_text(f"study: memory\nrun: {folder}\ndevice: cpu\nrecall: {{n_people: 2}}\n")
    assert main([str(path), *keys]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message) and said.count("\n") == 1
    assert not (folder / "evaluations").exists()


def test_a_run_that_cannot_be_written_to_is_refused_before_anything_is_asked(
    eval_yaml: str, run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_folder / "evaluations").write_text("not a folder")
    monkeypatch.setattr(RecallEvaluator, "ask", lambda *_: pytest.fail("asked in vain"))
    assert main([eval_yaml]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"Cannot write {run_folder}/evaluations/step_00000100_")
    assert said.endswith("as run=DIR.\n") and said.count("\n") == 1


def test_weights_come_back_as_they_were(finished: Path) -> None:
    trained = load_run(MemoryConfig, finished, ["training.device=cpu"])
    config = load_config(MemoryConfig, [str(finished / "config.yaml")])
    assert (trained.step, trained.config) == (100, config)
    assert not trained.model.training
    for name, weight in toy_model(config, 100).state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], weight, rtol=0, atol=0)
    with pytest.raises(UserError, match="does not fit the model"):
        load_run(MemoryConfig, finished, ["model.d_model=8"])


def test_the_config_beside_the_studys_examines_the_debug_run() -> None:
    config = load_config(EvalConfig, [str(EVAL_YAML)])
    debug = load_config(MemoryConfig, [str(EVAL_YAML.with_name("debug.yaml"))])
    assert config.run == debug.folder

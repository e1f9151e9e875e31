"""Stopping early: when, what the result says, and that a resumed run stops at the same step."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nanollama.config import dump_config, load_config
from nanollama.errors import ConfigError, Preempted, UserError
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.states import State, check_folder
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.training.config import StopWhen, TrainingConfig
from tests.toy_training import ToyEvaluator, rows, run_toy, same_end, toy_config


class Recall(ToyEvaluator):
    """1 at steps 4 to 10, except at 6."""

    def evaluate(self, model: Any, step: int) -> dict[str, float]:
        return {"recall": float(4 <= step <= 10 and step != 6)}


def config(folder: Path, **training: Any) -> Any:
    return toy_config(folder, eval_every=2, stop_when={"recall": 1.0, "evaluations": 2}, **training)


def test_a_run_stops_when_decided_and_says_so(tmp_path: Path) -> None:
    result = run_toy(config(tmp_path), evaluators=[Recall()])
    assert (result.status, result.step) == ("finished", 10)
    assert result.decided == "recall >= 1 at 2 evaluations in a row"
    assert json.loads((tmp_path / "result.json").read_text())["decided"] == result.decided
    assert (tmp_path / "checkpoints/step_00000010").is_dir()
    assert [row["step"] for row in rows(tmp_path, "evals.jsonl")] == [2, 4, 6, 8, 10]
    assert run_toy(config(tmp_path), evaluators=[Recall()]) == result


def test_a_run_whose_outcome_stays_open_goes_to_its_end(tmp_path: Path) -> None:
    rule = {"recall": 1.0, "evaluations": 3}
    result = run_toy(toy_config(tmp_path, eval_every=2, stop_when=rule), evaluators=[Recall()])
    assert (result.step, result.decided) == (12, None)


def test_a_resumed_run_stops_at_the_same_step(tmp_path: Path) -> None:
    run_toy(config(tmp_path / "calm"), evaluators=[Recall()])
    for _ in range(20):
        try:
            result = run_toy(config(tmp_path / "cut", max_minutes=1e-9), evaluators=[Recall()])
        except Preempted:
            continue
        break
    assert (result.step, result.decided is not None) == (10, True)
    assert same_end(tmp_path / "calm", tmp_path / "cut")


def test_an_unknown_measure_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no evaluator reports 'recal'; did you mean 'recall'\?"):
        rule = {"recal": 1.0}
        run_toy(toy_config(tmp_path, eval_every=2, stop_when=rule), evaluators=[Recall()])


def test_a_wrong_measure_is_corrected_and_the_run_goes_on(tmp_path: Path) -> None:
    calm = run_toy(config(tmp_path / "calm"), evaluators=[Recall()])
    wrong = config(tmp_path / "cut").training.model_copy(update={"stop_when": StopWhen(recal=1.0)})
    with pytest.raises(UserError, match="recal"):
        run_toy(config(tmp_path / "cut").model_copy(update={"training": wrong}), evaluators=[Recall()])
    assert run_toy(config(tmp_path / "cut"), evaluators=[Recall()]).decided == calm.decided
    assert same_end(tmp_path / "calm", tmp_path / "cut")


def test_a_run_that_was_decided_is_not_one_of_another_rule(tmp_path: Path) -> None:
    result = run_toy(config(tmp_path), evaluators=[Recall()])
    run = GridRun("r", tmp_path, config(tmp_path), {})
    for rule, words in ((None, "null"), ({"recall": 1.0, "evaluations": 3}, "recall >= 1 at 3 evaluations")):
        other = toy_config(tmp_path, eval_every=2, stop_when=rule)
        message = rf"ended after step 10, decided: recall >= 1 at 2 .*; training.stop_when is {words}"
        with pytest.raises(UserError, match=message):
            run_toy(other, evaluators=[Recall()])
        for config_hash in (run.id, replace(run, config=other).id):  # it may have gone on by another rule
            state = State("finished", {**asdict(result), "config_hash": config_hash})
            with pytest.raises(UserError, match=message):
                check_folder(replace(run, config=other), state)
    check_folder(run, State("finished", asdict(result)))
    assert run_toy(config(tmp_path), evaluators=[Recall()]) == result


def test_a_rule_that_was_corrected_is_the_one_that_a_run_ended_by(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="recal"):
        wrong = {"recal": 1.0, "evaluations": 2}
        run_toy(toy_config(tmp_path, eval_every=2, stop_when=wrong), evaluators=[Recall()])
    result = run_toy(config(tmp_path), evaluators=[Recall()])
    assert result.decided is not None
    assert run_toy(config(tmp_path), evaluators=[Recall()]) == result
    with pytest.raises(UserError, match=r"recall >= 1 at 2 evaluations in a row; .*stop_when is recal >= 1"):
        run_toy(toy_config(tmp_path, eval_every=2, stop_when=wrong), evaluators=[Recall()])


@pytest.mark.parametrize(("evaluations", "step"), [(1, 4), (2, 10), (3, None)])
def test_a_run_of_all_its_steps_is_not_one_that_a_rule_ends_before(
    tmp_path: Path, evaluations: int, step: int | None
) -> None:
    result = run_toy(toy_config(tmp_path, eval_every=2), evaluators=[Recall()])
    other = toy_config(tmp_path, eval_every=2, stop_when={"recall": 1.0, "evaluations": evaluations})
    state = State("finished", asdict(result))
    if step is None:
        assert run_toy(other, evaluators=[Recall()]) == result
        check_folder(GridRun("r", tmp_path, other, {}), state)
        return
    message = rf"trained to its last step, 12; training.stop_when is .* have ended it after step {step}:"
    with pytest.raises(UserError, match=message):
        run_toy(other, evaluators=[Recall()])
    with pytest.raises(UserError, match=message):
        check_folder(GridRun("r", tmp_path, other, {}), state)


def test_the_words_of_a_rule_are_its_own() -> None:
    rule = StopWhen(a=0.5, b=1 - 1e-9)
    assert rule.is_reason(StopWhen(b=1 - 1e-9, a=0.5).words)
    assert not rule.is_reason(StopWhen(b=1, a=0.5).words)
    assert not rule.is_reason(StopWhen(a=0.5).words)
    assert not rule.is_reason("")


def test_a_rule_without_evaluations_to_look_at_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"there is none before the end: set eval_every"):
        TrainingConfig(n_steps=10, stop_when=StopWhen(recall=1.0))


@pytest.mark.parametrize("every", [4, 5])
def test_a_decided_run_saves_its_last_step_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    saved: list[int] = []
    save = Checkpointer.save

    def watched(self: Checkpointer, step: int, *parts: Any) -> Path:
        saved.append(step)
        return save(self, step, *parts)

    monkeypatch.setattr(Checkpointer, "save", watched)
    run_toy(config(tmp_path, checkpoint={"every": every, "keep": 1}), evaluators=[Recall()])
    assert saved.count(10) == 1
    assert (tmp_path / "checkpoints" / "step_00000010").is_dir()


def test_a_rule_is_written_and_read_back(tmp_path: Path) -> None:
    before = TrainingConfig(n_steps=1, eval_every=1, stop_when=StopWhen(evaluations=3, recall=0.5))
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(before))
    assert load_config(TrainingConfig, [str(path)]) == before


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{evaluations: 3}", r"stop_when: names no measure; expected such as"),
        ("{recall: high}", r"stop_when: the least value of 'recall' must be a number, got 'high'"),
        ("{recall: .nan}", r"stop_when: the least value of .recall. must be a number, got"),
        ("{recall: 1.0, evaluations: 0}", r"stop_when.evaluations: expected an integer >= 1, got 0"),
    ],
)
def test_a_wrong_rule_is_refused(tmp_path: Path, rule: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"n_steps: 1\nstop_when: {rule}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(TrainingConfig, [str(path)])


def test_rows_of_before_a_measure_was_reported_decide_nothing() -> None:
    rule = StopWhen(recall=1.0, evaluations=2)
    assert rule.reason([{"step": 2}, {"step": 4, "recall": 1.0}]) is None
    assert rule.reason([{"step": 2}, {"step": 4, "recall": 1.0}, {"step": 6, "recall": 1.0}]) is not None


def test_more_steps_than_names_of_checkpoints_have_digits_for_are_refused() -> None:
    TrainingConfig(n_steps=99_999_999)
    with pytest.raises(ValueError, match="less than or equal to 99999999"):
        TrainingConfig(n_steps=100_000_000)

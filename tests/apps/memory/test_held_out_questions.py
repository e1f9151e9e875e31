"""Nothing that a set of questions calls unseen, new or longer is learned from, whatever the config says."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_run import toy_config, toy_model, write_run

from apps.memory.dataset.people import people
from apps.memory.eval import run as examine
from apps.memory.held_out import check_unlearned
from apps.memory.pretrained_model.stored import note_origin
from apps.memory.recall import choose_questions
from apps.memory.settings import EvalConfig, MemoryConfig, RecallSet
from apps.memory.sources import read_texts
from apps.memory.train import build_parts
from nanollama.config import dump_config
from nanollama.errors import UserError
from nanollama.exchange.export import export_hf
from nanollama.monitor.successor import ENVIRONMENT

HELD_OUT_PEOPLE: tuple[RecallSet, ...] = ("unseen", "new_names")
HELD_OUT_SUMS: tuple[RecallSet, ...] = ("sums_unseen", "sums_longer")
SUMS = {"sums", "sumstool"}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Keys of runs on up to 40 people and 300 sums, from any mix of sources."""
    kinds = draw(
        st.lists(
            st.sampled_from(["qa", "qatool", "biographies", "sums", "sumstool"]), min_size=1, unique=True
        )
    )
    sets: list[RecallSet] = []
    if set(kinds) & SUMS:
        sets += ["sums_trained", *HELD_OUT_SUMS]
    if set(kinds) - SUMS:
        sets += ["trained", *HELD_OUT_PEOPLE]
    sums = {
        "n_sums": draw(st.integers(1, 300)),
        "n_digits": draw(st.integers(2, 3)),
        "n_longer_digits": draw(st.integers(1, 2)),
        "depth": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 99)),
    }
    data = {
        "n_people": draw(st.integers(1, 40)),
        "sources": [{"kind": kind} for kind in kinds],
        "language": draw(st.sampled_from(["find", "sql"])),
        "sums": sums,
    }
    recall = {
        "n_people": draw(st.integers(1, 40)),
        "n_sums": draw(st.integers(1, 100)),
        "seed": draw(st.integers(0, 99)),
        "sets": sets,
    }
    return {"data": data, "recall": recall}


def learned_texts(config: MemoryConfig) -> list[str]:
    """All that is said in all dialogs and biographies a run learns from."""
    return [
        message.content
        for source in config.data.sources
        for messages in read_texts(config, source.kind)
        for message in messages
    ]


@given(keys=configs())
@settings(max_examples=15, deadline=None)
def test_no_question_of_a_held_out_set_is_learned_from(keys: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        config = toy_config(Path(folder), **keys)
        texts = learned_texts(config)
    learned, whole = set(texts), "\n".join(texts)
    for name in config.recall.sets:
        questions = choose_questions(name, config)
        asked = {dialog.messages[0].content for dialog in questions}
        assert name not in HELD_OUT_SUMS + HELD_OUT_PEOPLE or not asked & learned
        if name in HELD_OUT_PEOPLE:
            population = "new" if name == "new_names" else "train"
            for number in {dialog.person for dialog in questions}:
                (person,) = people(number, number + 1, population)
                assert not re.search(rf"\b{re.escape(person.name)}\b", whole)


SUMS_ALONE = [{"kind": "sums"}]
LOADED = [
    ({"n_people": 3}, {"n_people": 2}, "unseen", "data.n_people is 3 there and 2 here"),
    ({"n_people": 2}, {"n_people": 3}, "unseen", None),
    (
        {"n_people": 2, "dependence": {"alpha": 1}},
        {"n_people": 2},
        "unseen",
        r"data.dependence is .*alpha.* there and null here",
    ),
    ({"n_people": 3}, {"n_people": 2}, "trained", None),
    ({"n_people": 3, "sources": SUMS_ALONE}, {"n_people": 2}, "unseen", None),
    ({"sums": {"seed": 1}}, {"sums": {"seed": 2}}, "sums_unseen", "data.sums.seed is 1 there and 2 here"),
    ({"sums": {"n_digits": 4}}, {"sums": {"n_digits": 3}}, "sums_longer", "n_digits is 4 there and 3 here"),
    ({"sums": {"n_digits": 3}}, {"sums": {"n_digits": 3}}, "sums_longer", None),
]


def first_of(
    folder: Path, there: dict[str, Any], here: dict[str, Any], name: str
) -> tuple[MemoryConfig, str, dict[str, Any]]:
    """Of a case of `LOADED`: the run that learned, the set that it is asked, and the data of the next one."""
    sources = SUMS_ALONE if name in HELD_OUT_SUMS else [{"kind": "qa"}]
    source, data = ({"n_people": 2, "sources": sources, **keys} for keys in (there, here))
    asked = "sums_trained" if source["sources"] == SUMS_ALONE else "trained"
    return toy_config(folder / "first", data=source, recall={"sets": [asked]}), asked, data


@pytest.mark.parametrize(("there", "here", "name", "message"), LOADED)
def test_weights_that_have_learned_of_it_are_not_asked_about_it(
    tmp_path: Path, there: dict[str, Any], here: dict[str, Any], name: str, message: str | None
) -> None:
    first, asked, data = first_of(tmp_path, there, here, name)
    write_run(first, toy_model(first))
    load = {"implementation": "load", "run": str(first.folder)}
    keys = {"data": data, "recall": {"sets": [name]}, "data_root": str(tmp_path / "data")}
    config = toy_config(tmp_path / "second", interventions=[load], **keys)
    with nullcontext() if message is None else pytest.raises(UserError, match=message), build_parts(config):
        pass
    if message is not None:  # the set is left out of training and asked for later
        tuned = config.changed(recall=config.recall.model_copy(update={"sets": (asked,)}))
        folder = write_run(tuned, toy_model(tuned))
        with pytest.raises(UserError, match=message):
            examine(EvalConfig(study="memory", run=folder, recall=config.recall, device="cpu"))
        assert not (folder / "evaluations").exists()


def exported(config: MemoryConfig, folder: Path) -> str:
    """The model of a run, as `nanollama export hf` leaves it."""
    export_hf(write_run(config, toy_model(config)), folder)
    return str(folder)


def tuned_config(folder: Path, path: str, **keys: Any) -> MemoryConfig:
    """A run that starts from an exported model."""
    model = {"implementation": "hugging_face", "path": path, "max_seq_len": 256}
    return toy_config(folder, **{"model": model, **keys})


@pytest.mark.parametrize(("there", "here", "name", "message"), LOADED)
def test_a_model_that_was_exported_is_not_asked_about_what_it_has_learned(
    tmp_path: Path, there: dict[str, Any], here: dict[str, Any], name: str, message: str | None
) -> None:
    first, _, data = first_of(tmp_path, there, here, name)
    path = exported(first, tmp_path / "exported")
    tuned = tuned_config(tmp_path / "second", path, data=data, recall={"sets": [name]})
    with nullcontext() if message is None else pytest.raises(UserError, match=message):
        check_unlearned(tuned)


def test_what_an_exported_model_has_learned_is_known_by_way_of_others_and_after_it_is_replaced(
    tmp_path: Path,
) -> None:
    people = [{"n_people": n, "sources": [{"kind": "qa"}]} for n in (2, 3)]
    many = toy_config(tmp_path / "many", data=people[1])
    path = exported(many, tmp_path / "exported")
    tuned = tuned_config(tmp_path / "tuned", path, data=people[0], recall={"sets": ["trained"]})
    (tuned.folder / "checkpoints" / "step_00000001").mkdir(parents=True)
    (tuned.folder / "config.yaml").write_text(dump_config(tuned))
    load = {"implementation": "load", "run": str(tuned.folder)}
    third = toy_config(tmp_path / "third", data=people[0], recall={"sets": ["unseen"]}, interventions=[load])
    with pytest.raises(UserError, match=r"data\.n_people is 3 there and 2 here"):
        check_unlearned(third)
    (tuned.folder / "checkpoints" / "step_00000001").rmdir()
    (tuned.folder / ENVIRONMENT).write_text("{}")
    note_origin(tuned.folder, path)
    (tuned.folder / "checkpoints" / "step_00000001").mkdir()
    few = toy_config(tmp_path / "few", data=people[0])
    (tmp_path / "exported" / "nanollama.yaml").write_text(dump_config(few))
    with pytest.raises(UserError, match=r"data\.n_people is 3 there and 2 here"):
        check_unlearned(third)

"""Nothing that a set of questions calls unseen, new or longer is learned from, whatever the config says."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from toy_run import toy_config

from apps.memory.dataset.people import people
from apps.memory.recall import choose_questions
from apps.memory.settings import MemoryConfig, RecallSet
from apps.memory.sources import read_texts

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

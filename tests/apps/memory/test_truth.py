"""What is true of a question: people of every kind, sums, and what the study does not know."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_run import toy_config, toy_model, write_run

from apps.memory.dataset.dependent import dependent_people
from apps.memory.dataset.people import ATTRIBUTES, N_PEOPLE, find_person, people
from apps.memory.dataset.templates import default_templates
from apps.memory.truth import known_about


@pytest.mark.parametrize("population", ["train", "new"])
@pytest.mark.parametrize("number", [0, 1, 77_777, N_PEOPLE - 1])
def test_a_person_is_found_by_name(population: str, number: int) -> None:
    (person,) = people(number, number + 1, population)  # type: ignore[arg-type]
    assert find_person(person.name, population) == person  # type: ignore[arg-type]
    other = "new" if population == "train" else "train"
    assert find_person(person.name, other) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_people_of_each_kind(attribute: str, tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    question = getattr(default_templates().qatool, attribute).question
    for (person,), about in (
        (people(1, 2), "learned about"),
        (people(2, 3), "never seen"),
        (people(0, 1, "new"), "new names"),
    ):
        known = known_about(question.format(name=person.name), config)
        assert known is not None
        assert (known.dialog.answer, known.about) == (getattr(person, attribute), about)


def test_people_that_a_loaded_run_has_learned_about_were_seen(tmp_path: Path) -> None:
    learned = {"n_people": 5, "sources": [{"kind": "qa"}]}
    first = toy_config(tmp_path / "first", data=learned)
    write_run(first, toy_model(first))
    load = {"implementation": "load", "run": str(first.folder)}
    config = toy_config(tmp_path / "second", interventions=[load])
    (last, other) = people(4, 6)
    for person, about in ((last, "learned about"), (other, "never seen")):
        known = known_about(f"Where was {person.name} born?", config)
        assert known is not None and known.about == about


def test_people_whose_facts_depend_on_their_names(tmp_path: Path) -> None:
    data = {"n_people": 200, "sources": [{"kind": "qa"}], "dependence": {"alpha": 0.5, "seed": 1}}
    config = toy_config(tmp_path, data=data, recall={"n_people": 1, "sets": ["trained"]})
    person = dependent_people(0.5, 201, 1)[-1]
    known = known_about(f"Where was {person.name} born?", config)
    assert known is not None and (known.dialog.answer, known.about) == (person.birth_place, "never seen")


def test_sums(tmp_path: Path) -> None:
    known = known_about("What is 482*19+7?", toy_config(tmp_path))
    assert known is not None and (known.dialog.answer, known.about) == ("It is 9165", "a sum")


@pytest.mark.parametrize(
    "question",
    ["", "?", "What is love?", "What is ?", "What is 9**9**9?", "Where was  born?", "Where was Nobody born?",
     "Where was Ann Bell born", "When was \0 born?", "What is " + "(" * 1000 + "?"],
)  # fmt: skip
def test_what_nobody_knows(question: str, tmp_path: Path) -> None:
    assert known_about(question, toy_config(tmp_path)) is None

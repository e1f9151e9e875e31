"""Dependent facts: who they are, and their exact entropy against counting."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
from toy_run import toy_config

from apps.memory.dataset import dependent
from apps.memory.dataset.dependent import (
    N_DEPENDENT_PEOPLE,
    database_bits,
    database_bounds,
    dependent_people,
    ensure_dependent_database,
    group_bits,
    group_bounds,
    last_names,
    pool_size,
)
from apps.memory.dataset.people import ATTRIBUTES, bits_per_person
from apps.memory.recall import choose_questions, learned_by_heart, open_tool
from apps.memory.sources import read_texts
from nanollama.errors import UserError

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def counted_bits(n_members: int, n_values: int, alpha: float) -> float:
    """Entropy of a group's fact: every rule and every sequence of values, one by one."""
    chances: Counter[tuple[int, ...]] = Counter()
    for rule in range(n_values):
        for values in itertools.product(range(n_values), repeat=n_members):
            chance = 1 / n_values
            for value in values:
                chance *= (1 - alpha) * (value == rule) + alpha / n_values
            chances[values] += chance
    assert math.fsum(chances.values()) == pytest.approx(1)
    return -math.fsum(chance * math.log2(chance) for chance in chances.values() if chance)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.75, 1.0])
@pytest.mark.parametrize(("n_members", "n_values"), [(1, 2), (2, 7), (3, 5), (5, 3), (6, 4), (9, 2)])
def test_the_entropy_of_a_group_is_that_of_counting(n_members: int, n_values: int, alpha: float) -> None:
    assert group_bits(n_members, n_values, alpha) == pytest.approx(
        counted_bits(n_members, n_values, alpha), abs=1e-9
    )


def counted_database_bits(alpha: float, n_people: int, sizes: dict[str, int]) -> float:
    groups = Counter(last_names(n_people).tolist()).values()
    return math.fsum(counted_bits(size, n_values, alpha) for n_values in sizes.values() for size in groups)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_entropy_of_sixty_people_is_that_of_counting(
    alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = dict(zip(ATTRIBUTES, (6, 5, 3, 2), strict=True))  # pools small enough to count every sequence
    monkeypatch.setattr(dependent, "pool_size", lambda attribute, alpha: sizes[attribute])
    assert database_bits(alpha, 60) == pytest.approx(counted_database_bits(alpha, 60, sizes), abs=1e-8)


def test_the_ends_are_known_in_closed_form() -> None:
    n_last = len(set(last_names(60).tolist()))
    assert database_bits(0, 60) == pytest.approx(4 * n_last)  # two values each
    assert database_bits(1, 60) == pytest.approx(60 * bits_per_person())


@pytest.mark.parametrize("n_values", [2, 53, 4284])
def test_large_groups_are_bracketed_closely(n_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = group_bits(30, n_values, 0.5)
    assert group_bounds(30, n_values, 0.5) == (exact, exact)
    monkeypatch.setattr(dependent, "MAX_PEOPLE_SUMMED", 20)
    low, high = group_bounds(30, n_values, 0.5)
    assert low <= exact <= high
    assert low == pytest.approx(high, rel=4e-3)


def test_people_are_all_different_and_stay_who_they_are() -> None:
    known = dependent_people(0.5, N_DEPENDENT_PEOPLE)
    assert len({person.name for person in known}) == N_DEPENDENT_PEOPLE
    assert len({person.name.split()[-1] for person in known}) == 64
    assert dependent_people(0.5, 10) == known[:10]
    assert [person.name for person in dependent_people(0, 10)] == [person.name for person in known[:10]]


def test_at_zero_facts_follow_from_the_last_name_and_at_one_they_do_not() -> None:
    for alpha, most in ((0.0, 1), (1.0, 60)):
        by_last: dict[str, set[str]] = {}
        for person in dependent_people(alpha, 2000):
            by_last.setdefault(person.name.split()[-1], set()).add(person.current_address)
        sizes = [len(values) for values in by_last.values()]
        assert max(sizes) <= most
        assert min(sizes) >= (1 if alpha == 0 else 10)


def test_the_share_of_free_facts_is_alpha() -> None:
    assert pool_size("occupation", 0.5) == 50
    by_last: dict[str, Counter[str]] = {}
    for person in dependent_people(0.5, N_DEPENDENT_PEOPLE):
        by_last.setdefault(person.name.split()[-1], Counter())[person.occupation] += 1
    most_common = [counts.most_common(1)[0][1] / counts.total() for counts in by_last.values()]
    assert sum(most_common) / len(most_common) == pytest.approx(0.5 + 0.5 / 50, abs=0.02)


def test_a_run_learns_them_by_heart(tmp_path: Path) -> None:
    data = {"n_people": 60, "sources": [{"kind": "qa"}], "dependence": {"alpha": 0.5, "seed": 7}}
    config = toy_config(tmp_path, data=data, recall={"n_people": 5, "sets": ["trained"]})
    texts = read_texts(config, "qa")
    assert len(texts) == 240
    assert all(list(dialog.messages) in texts for dialog in choose_questions("trained", config))
    learned = learned_by_heart(config)
    assert learned is not None and learned.bits_per_person == pytest.approx(database_bits(0.5, 60, 7) / 60)


def test_a_run_may_ask_a_database_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every question has its true answer there, whatever the strength and the seed; it is made once."""
    for dependence in ({"alpha": 0.5, "seed": 7}, {"alpha": 0.5}):
        data = {"n_people": 60, "sources": [{"kind": "qatool"}], "dependence": dependence}
        config = toy_config(tmp_path, data=data, recall={"n_people": 5, "sets": ["trained"]})
        assert learned_by_heart(config) is None
        for _ in range(2):
            with open_tool(config) as tool:
                assert tool is not None
                for dialog in choose_questions("trained", config):
                    assert tool.answer([dialog.messages[1].content]) == [dialog.answer]
        assert capsys.readouterr().out.count("wrote") == 1
        texts = read_texts(config, "qatool")
        assert len(texts) == 240 and all(
            list(d.messages) in texts for d in choose_questions("trained", config)
        )


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = ensure_dependent_database(tmp_path, 0.5, 0)
    ensure_dependent_database(tmp_path, 0.25, 0).replace(path)
    with pytest.raises(UserError, match=r"people\.sqlite holds something else than its people; move"):
        ensure_dependent_database(tmp_path, 0.5, 0)
    assert path.exists()


@pytest.mark.parametrize(
    ("data", "sets", "message"),
    [
        ({"sources": [{"kind": "biographies"}]}, ["trained"], "kind qa"),
        ({"sources": [{"kind": "qa"}]}, ["trained", "unseen"], "kind qa"),
        ({"sources": [{"kind": "qa"}], "n_people": 9000}, ["trained"], "there are 8192"),
    ],
)
def test_what_dependence_is_not_for_is_refused(
    tmp_path: Path, data: dict[str, object], sets: list[str], message: str
) -> None:
    tree = {"n_people": 4, "dependence": {"alpha": 0}, **data}
    with pytest.raises(ValueError, match=message):
        toy_config(tmp_path, data=tree, recall={"sets": sets, "n_people": 2})


def test_the_command_writes_people_and_says_the_entropy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dependent.main(["0.25", "--num", "20", "--root", str(tmp_path)]) == 0
    assert f"{database_bits(0.25, 20):,.1f} bits in all, " in capsys.readouterr().out
    folder = tmp_path / "memory" / "dependent" / "alpha_0.25"
    assert len((folder / "people.jsonl").read_text().splitlines()) == 20
    for kind in ("qa", "qatool"):
        assert len((folder / f"{kind}.jsonl").read_text().splitlines()) == 80
    assert not (folder / "people.sqlite").exists()
    for options in ([], ["--overwrite"]):
        assert dependent.main(["0.25", "--num", "20", "--root", str(tmp_path), "--database", *options]) == 0
        assert "people.sqlite: 8,192 people\n" in capsys.readouterr().out
    assert dependent.main(["2", "--root", str(tmp_path)]) == 2
    assert "Expected ALPHA from 0 to 1" in capsys.readouterr().err


def test_the_command_says_how_well_the_entropy_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dependent.main(["0.75", "--num", "4000", "--root", str(tmp_path)]) == 0
    low, high = database_bounds(0.75, 4000)
    assert high - low > 1
    expected = f"{(low + high) / 2:,.1f} bits in all (give or take {(high - low) / 2:,.1f}), "
    assert expected in capsys.readouterr().out

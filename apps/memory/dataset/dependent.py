"""People whose facts depend on their last names, and how many bits there are to know about them.

128 first and 64 last names make 8,192 people. For each attribute a rule gives every last name a value. A
fact is what the rule says, but with chance ``alpha`` it is free: uniform over the values. There are max(2,
floor(alpha |V|)) values, of the |V| there are (claim C1.3, arXiv 2508.20755). At alpha 0 facts follow from
the last name; at alpha 1 they are uniform and independent.

A rule is drawn as well, uniformly, and nobody is told it: what there is to know is the entropy of the facts
of all people, given their names. Facts of different last names and attributes are independent; the k people
of one last name share one value of the rule, so with m values, p = 1 - alpha + alpha / m and q = alpha / m,

    P(facts) = 1/m  sum over values v of  p^{n_v} q^{k - n_v}

where n_v people have value v. This depends on the sorted n_v alone, a partition of k, so the entropy is a sum
over partitions.

``python -m apps.memory.dataset.dependent ALPHA [--num N] [--root DIR] [--seed S]`` writes people and dialogs,
and with ``--database`` the SQLite database of all of them.
"""

from __future__ import annotations

import math
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from apps.memory.dataset.command import add_root
from apps.memory.dataset.dialogs import DIALOG_KINDS, make_dialog
from apps.memory.dataset.files import replacing, write_lines
from apps.memory.dataset.lines import dialog_line, person_line
from apps.memory.dataset.paths import dependent_database_path, dependent_folder
from apps.memory.dataset.people import ATTRIBUTES, Person, attribute_values, read_list, splitmix64
from apps.memory.dataset.sql_db import read_rows, write_rows
from nanollama.entrypoint import Parser, guard
from nanollama.errors import UserError
from nanollama.seeds import named_seed

N_DEPENDENT_FIRST, N_DEPENDENT_LAST = 128, 64
N_DEPENDENT_PEOPLE = N_DEPENDENT_FIRST * N_DEPENDENT_LAST
MAX_PEOPLE_SUMMED = 36
"""Largest group whose partitions are all summed: 17,977 of them."""

_PROGRAM = "python -m apps.memory.dataset.dependent"


def dependent_people(alpha: float, n_people: int, seed: int = 0) -> list[Person]:
    """The first so many people. A fact that is free at some alpha is free at every larger one.

    Raises:
        ValueError: alpha is no chance, or there are fewer people.
    """
    if not 0 <= alpha <= 1 or not 0 <= n_people <= N_DEPENDENT_PEOPLE:
        raise ValueError(
            f"Expected alpha from 0 to 1 and 0 to {N_DEPENDENT_PEOPLE} people, got {alpha} and {n_people}."
        )
    index, last = np.arange(n_people), last_names(n_people, seed)
    pairs = _pairs(seed)[:n_people].tolist()
    firsts, lasts = read_list("first_names"), read_list("last_names")
    names = [f"{firsts[pair // N_DEPENDENT_LAST]} {lasts[pair % N_DEPENDENT_LAST]}" for pair in pairs]
    facts = []
    for attribute in ATTRIBUTES:
        values, n_values = attribute_values(attribute), pool_size(attribute, alpha)
        chance = (_hash(seed, f"{attribute}/free", index) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        free = _hash(seed, f"{attribute}/value", index) % np.uint64(n_values)
        ruled = _hash(seed, f"{attribute}/rule", last) % np.uint64(n_values)
        facts.append([values[number] for number in np.where(chance < alpha, free, ruled).tolist()])
    return list(map(Person, range(n_people), names, *facts))


def ensure_dependent_database(root: Path, alpha: float, seed: int) -> Path:
    """The database of all people of such facts, made if it is missing.

    Raises:
        UserError: it cannot be written, or holds something else.
    """
    path = dependent_database_path(root, alpha, seed)
    rows = sorted(person[1:] for person in dependent_people(alpha, N_DEPENDENT_PEOPLE, seed))
    if not path.exists():
        with replacing(path) as new_path:
            if not path.exists():
                write_rows(new_path, rows)
                os.replace(new_path, path)
                print(f"wrote {path}: {len(rows):,} people", flush=True)
    with suppress(sqlite3.Error):
        if read_rows(path) == rows:
            return path
    raise UserError(f"{path} holds something else than its people; move the file away, and it is made anew.")


def last_names(n_people: int, seed: int = 0) -> np.ndarray:
    """(n_people,) number of the last name of each person."""
    return _pairs(seed)[:n_people] % N_DEPENDENT_LAST


def pool_size(attribute: str, alpha: float) -> int:
    """Values an attribute can take."""
    return max(2, math.floor(alpha * len(attribute_values(attribute))))


def database_bits(alpha: float, n_people: int, seed: int = 0) -> float:
    """Entropy of all facts of the first so many people, in bits, given their names: between its bounds."""
    return math.fsum(database_bounds(alpha, n_people, seed)) / 2


def database_bounds(alpha: float, n_people: int, seed: int = 0) -> tuple[float, float]:
    """Bounds of `database_bits`; equal where no last name has more than `MAX_PEOPLE_SUMMED` people."""
    groups = Counter(Counter(last_names(n_people, seed).tolist()).values())
    bounds = [
        (n_groups, group_bounds(n_members, pool_size(attribute, alpha), alpha))
        for attribute in ATTRIBUTES
        for n_members, n_groups in groups.items()
    ]
    return math.fsum(n * low for n, (low, _) in bounds), math.fsum(n * high for n, (_, high) in bounds)


def group_bounds(n_members: int, n_values: int, alpha: float) -> tuple[float, float]:
    """Bounds of the entropy of one fact of all people of one last name, in bits.

    Equal up to `MAX_PEOPLE_SUMMED` members. Each further one adds at least what a fact adds once the rule
    is known and at most what the last one summed added.
    """
    if alpha == 1:
        return (n_members * math.log2(n_values),) * 2
    summed = group_bits(min(n_members, MAX_PEOPLE_SUMMED), n_values, alpha)
    n_more = n_members - MAX_PEOPLE_SUMMED
    if n_more <= 0:
        return summed, summed
    at_most = summed - group_bits(MAX_PEOPLE_SUMMED - 1, n_values, alpha)
    return summed + n_more * _fact_bits(n_values, alpha), summed + n_more * at_most


@lru_cache(maxsize=4096)
def group_bits(n_members: int, n_values: int, alpha: float) -> float:
    """Entropy of one fact of all people of one last name, in bits: a sum over partitions."""
    hit, miss = 1 - alpha + alpha / n_values, alpha / n_values
    terms = []
    for partition in _partitions(n_members, n_members, n_values):
        others = (n_values - len(partition)) * miss**n_members
        chance = sum(hit**n * miss ** (n_members - n) for n in partition) + others
        if chance > 0:
            log_chance = math.log(chance) - math.log(n_values)
            terms.append(-math.exp(_log_n_sequences(partition, n_values) + log_chance) * log_chance)
    return math.fsum(terms) / math.log(2)


def _fact_bits(n_values: int, alpha: float) -> float:
    """Entropy of a fact where the rule is known."""
    hit, miss = 1 - alpha + alpha / n_values, alpha / n_values
    rest = (n_values - 1) * miss * math.log2(miss) if miss > 0 else 0.0
    return -hit * math.log2(hit) - rest


def _partitions(total: int, largest: int, n_parts: int) -> Iterator[tuple[int, ...]]:
    """Ways to write a number as a sum of at most so many positive parts, in falling order."""
    if total == 0:
        yield ()
    elif n_parts > 0:
        for part in range(min(total, largest), 0, -1):
            for rest in _partitions(total - part, part, n_parts - 1):
                yield (part, *rest)


def _log_n_sequences(partition: Sequence[int], n_values: int) -> float:
    """Logarithm of the number of sequences of values in which values are as frequent as the parts say."""
    orders = math.lgamma(sum(partition) + 1) - sum(math.lgamma(part + 1) for part in partition)
    choices = sum(math.log(n_values - used) for used in range(len(partition)))
    alike = sum(math.lgamma(n_parts + 1) for n_parts in Counter(partition).values())
    return orders + choices - alike


def _hash(seed: int, purpose: str, counters: np.ndarray) -> np.ndarray:
    return splitmix64(named_seed(seed, f"dependent/{purpose}"), counters)


def _pairs(seed: int) -> np.ndarray:
    """The permutation: number of the name pair of each person."""
    return np.argsort(_hash(seed, "name", np.arange(N_DEPENDENT_PEOPLE)), kind="stable")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(prog=_PROGRAM, description="Write people whose facts depend on their last names.")
    parser.add_argument("alpha", help="chance of a fact to be free, from 0 to 1")
    parser.add_argument("--num", default=str(N_DEPENDENT_PEOPLE), help="people (default: all)")
    parser.add_argument("--seed", default="0", help="of names and facts (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that differ")
    parser.add_argument("--database", action="store_true", help="make their SQLite database as well")
    add_root(parser)
    return guard(lambda: _write(parser.parse_args(argv)))


def _write(arguments: object) -> None:
    options = vars(arguments)
    try:
        alpha, n_people, seed = float(options["alpha"]), int(options["num"]), int(options["seed"])
        known = dependent_people(alpha, n_people, seed)
    except ValueError:
        raise UserError(
            f"Expected ALPHA from 0 to 1, --num from 0 to {N_DEPENDENT_PEOPLE} and a whole --seed, got "
            f"{options['alpha']}, {options['num']} and {options['seed']}."
        ) from None
    folder = dependent_folder(options["root"], alpha, seed)
    texts = {"people": "".join(map(person_line, known))}
    for kind in DIALOG_KINDS:
        asked = (make_dialog(person, attribute, kind) for person in known for attribute in ATTRIBUTES)
        texts[kind] = "".join(map(dialog_line, asked))
    for name, text in texts.items():
        print(write_lines(folder / f"{name}.jsonl", [text.encode()], options["overwrite"]))
    if options["database"]:
        if options["overwrite"]:
            dependent_database_path(options["root"], alpha, seed).unlink(missing_ok=True)
        ensure_dependent_database(options["root"], alpha, seed)
    low, high = database_bounds(alpha, n_people, seed)
    bits, reach = (low + high) / 2, (high - low) / 2
    known_to = f" (give or take {reach:,.1f})" if reach >= 0.05 else ""  # bits in all have one decimal
    print(f"alpha {alpha:g}: {bits:,.1f} bits in all{known_to}, {bits / max(1, n_people):.4f} bits a person")


if __name__ == "__main__":
    sys.exit(main())

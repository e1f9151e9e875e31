"""Bits per parameter, against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apps.memory.capacity import capacity, value_loss_nats
from apps.memory.dataset.people import ATTRIBUTES, attribute_values, bits_per_person


def test_the_value_is_what_stands_before_the_full_stop_and_the_end() -> None:
    losses = np.arange(20, dtype=np.float32)  # ... C h i l e . <end>
    assert value_loss_nats("Chile", losses) == 13 + 14 + 15 + 16 + 17
    assert value_loss_nats("Å", losses) == 16 + 17  # two bytes


def test_who_knows_everything_holds_all_bits() -> None:
    measures = capacity([0.0] * 8, n_people=100, n_params=1000, bits_per_person=bits_per_person())
    assert measures["bits_per_parameter"] == pytest.approx(31.251 * 100 / 1000, rel=1e-4)
    assert measures["bits_per_fact"] == pytest.approx(31.251 / 4, rel=1e-4)


def test_who_guesses_evenly_holds_nothing() -> None:
    guesses = [math.log(len(attribute_values(attribute))) for attribute in ATTRIBUTES]
    measures = capacity(guesses * 3, n_people=100, n_params=1000, bits_per_person=bits_per_person())
    assert measures == pytest.approx({"bits_per_parameter": 0.0, "bits_per_fact": 0.0}, abs=1e-12)


def test_the_formula_of_the_paper() -> None:
    losses = [0.5, 1.5, 0.25, 1.0, 2.5, 0.0, 0.75, 0.5]  # two people
    p2 = sum(losses) / 2
    bits = math.log2((28 * 12 * 51) * 7 * 213 * 100)
    expected = 5000 * (bits - p2 / math.log(2)) / 60_372
    assert capacity(losses, 5000, 60_372, bits)["bits_per_parameter"] == pytest.approx(expected, rel=1e-9)


def test_who_is_sure_of_wrong_values_holds_less_than_nothing() -> None:
    assert capacity([40.0] * 4, 10, 100, 31.0)["bits_per_fact"] < 0

"""The schemas of configs: what they know, what they accept, what they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from toy import ToyConfig

from nanollama.cli.schema import json_schema

SCHEMA = json_schema(ToyConfig)
WHOLE: dict[str, Any] = {"study": "toy", "model": {"implementation": "wide", "d_model": 32}}


def accepts(tree: dict[str, Any]) -> bool:
    return Draft202012Validator(SCHEMA).is_valid(tree)


def test_a_schema_is_one_and_knows_every_key() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    json.dumps(SCHEMA)
    about_files = {"base", "scale", "scales", "grid", "local", "slurm", "expect", "overwrite"}
    assert set(SCHEMA["properties"]) == about_files | set(ToyConfig.model_fields)
    assert SCHEMA["properties"]["seed"]["description"] == "Seed of all that is random."
    assert set(SCHEMA["$defs"]["Deep"]["properties"]) == {"implementation", "n_layers", "decay"}


@pytest.mark.parametrize(
    "tree",
    [
        WHOLE,
        {"base": "toy.yaml"},
        {"base": "toy.yaml", "model": {"d_model": 16}, "scale": "paper"},
        {"base": "toy.yaml", "model": {"n_heads": 4}, "optimizer": {}},
        {"base": "toy.yaml", "model": {}},
        {
            "grid": {"product": {"model": [{"implementation": "deep", "n_layers": 2}]}, "seeds": 3},
            "study": "toy",
        },
        {**WHOLE, "grid": {"zip": [{"model.d_model": [16, 32]}], "seeds": [4, 5], "exclude": [{"seed": 4}]}},
        {
            **WHOLE,
            "grid": {"product": {"model.d_model": [16]}},
            "local": {"n_jobs": 2},
            "slurm": {"n_gpus": 1},
        },
        {
            **WHOLE,
            "expect": [{"claim": "it works", "runs": {"a.b": [1, 2]}, "measure": "x", "at_least": 0.5}],
        },
        {**WHOLE, "scales": {"paper": {"model": {"d_model": 128}, "grid": {"seeds": 10}, "expect": []}}},
        {**WHOLE, "name": "one", "run_dir": "runs/one", "overwrite": True},
    ],
)
def test_accepted(tree: dict[str, Any]) -> None:
    assert accepts(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"study": "toy"},
        {"study": "tyo", "base": "toy.yaml"},
        {**WHOLE, "sede": 3},
        {**WHOLE, "seed": -1},
        {**WHOLE, "model": {"implementation": "wide", "d_mdoel": 32}},
        {**WHOLE, "model": {"implementation": "wide", "n_layers": 2}},
        {**WHOLE, "sources": [{"kind": "qa", "wieght": 1}]},
        {**WHOLE, "grid": {"prodcut": {}}},
        {**WHOLE, "local": {"n_job": 2}},
        {**WHOLE, "slurm": {"gpus": 1}},
        {**WHOLE, "expect": [{"claim": "it works", "at_lest": 0.5}]},
        {**WHOLE, "scales": {"paper": {"sede": 3}}},
        {**WHOLE, "scales": {"paper": {"local": {"n_job": 3}}}},
    ],
)
def test_refused(tree: dict[str, Any]) -> None:
    assert not accepts(tree)

"""Grids: which runs they describe, their names and order, and every refusal."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apps.memory.settings import MemoryConfig
from nanollama.config import config_hash
from nanollama.config.source import read_source
from nanollama.errors import ConfigError
from nanollama.launcher.grid.expand import GridRun, expand

BASE = """\
study: memory
name: base
data: {n_people: 32, sources: [{kind: qa}]}
model: {implementation: transformer, d_model: 32, n_layers: 2, n_heads: 2}
training: {n_steps: 10}
"""


def grid_of(tmp_path: Path, text: str, base: str = BASE) -> list[GridRun]:
    """The runs of the base config with this section ``grid``."""
    path = tmp_path / "grid.yaml"
    path.write_text(f"{base}grid:\n{text}", encoding="utf-8")
    source = read_source([str(path)])
    section = source.value.pop("grid")
    return expand(section, source, MemoryConfig, Path("runs/base"))


def values_of(runs: list[GridRun]) -> list[tuple[object, ...]]:
    return [tuple(run.values.values()) for run in runs]


def test_every_combination_seeds_slowest(tmp_path: Path) -> None:
    runs = grid_of(
        tmp_path,
        "  product: {model.d_model: [16, 32], data.n_people: [8, 4]}\n"
        "  zip: [{model.n_layers: [1, 2], model.n_heads: [2, 4]}]\n"
        "  seeds: 2\n",
    )
    assert values_of(runs) == [
        (seed, d_model, n_people, *shape)
        for seed in (0, 1)
        for d_model in (16, 32)
        for n_people in (8, 4)
        for shape in ((1, 2), (2, 4))
    ]
    first = runs[0]
    assert first.name == "d_model-16_n_people-8_n_layers-1_n_heads-2_seed-0"
    assert first.folder == Path("runs/base") / first.name
    config = first.config
    assert isinstance(config, MemoryConfig)
    assert (config.name, config.folder, config.overwrite) == (first.name, first.folder, False)
    assert (config.model.d_model, config.data.n_people, config.model.n_layers) == (16, 8, 1)
    assert (config.model.n_heads, config.training.seed, config.training.n_steps) == (2, 0, 10)
    assert first.id == config_hash(config)
    assert len({run.id for run in runs}) == len(runs)


def test_seeds_may_be_named_and_their_key_chosen(tmp_path: Path) -> None:
    runs = grid_of(tmp_path, "  seeds: [7, 3]\n  seed_key: recall.seed\n")
    assert [dict(run.values) for run in runs] == [{"recall.seed": 7}, {"recall.seed": 3}]
    assert [run.name for run in runs] == ["seed-7", "seed-3"]


def test_exclusions_need_all_values_and_lists_mean_any(tmp_path: Path) -> None:
    runs = grid_of(
        tmp_path,
        "  product: {model.d_model: [16, 32], data.n_people: [4, 8, 16]}\n"
        "  exclude: [{model.d_model: 16, data.n_people: [8, 16]}, {data.n_people: 4, model.d_model: 32}]\n",
    )
    assert values_of(runs) == [(16, 4), (32, 8), (32, 16)]


def test_names_stay_short_unique_and_valid(tmp_path: Path) -> None:
    long = "x" * 120
    runs = grid_of(
        tmp_path,
        f"  product:\n    data_root: [a/b, a-b, {long}, {long}y]\n"
        "    data.sources: [[{kind: qa}], [{kind: qatool}]]\n",
    )
    names = [run.name for run in runs]
    assert names[:2] == ["data_root-a-b_sources-0_0", "data_root-a-b_sources-1_1"]
    assert len(set(names)) == len(names) == 8
    assert max(map(len, names)) <= 100


def test_keys_that_end_alike_are_told_apart(tmp_path: Path) -> None:
    (run, *_) = grid_of(tmp_path, "  product: {recall.n_people: [5, 6], data.n_people: [8, 9]}\n")
    assert run.name == "recall.n_people-5_data.n_people-8"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("  {}\n", r"grid.yaml:\d+: grid: is empty; expected values under `product`"),
        (
            "  product: {model.d_model: []}\n",
            r"grid.yaml:\d+: grid: the key 'model.d_model' has no values; expected at least one",
        ),
        (
            "  product: {model.d_modle: [16]}\n",
            r"grid.yaml:7: model.d_modle: unknown key; did you mean 'd_model'.*first in run d_modle-16",
        ),
        (
            "  product: {model.d_model: [16, many]}\n",
            r"grid.yaml:7: model.d_model: expected an integer >= \d+, got 'many'.*first in run d_model-many",
        ),
        ("  product: {model.d_model: [15, 16]}\n", r"d_model.*15.*first in run d_model-15"),
        ("  produkt: {a: [1]}\n", r"grid.yaml:7: .*produkt: unknown key; did you mean '.*product'"),
        ("  seeds: [0, 1, 0]\n", r"grid.yaml:7: grid: training.seed = 0 is given twice"),
        ("  product: {data.n_people: [8, 8.0]}\n", r"data.n_people = 8.0 is given twice"),
        ("  product: {data.sources: [[{kind: qa}], [{kind: qa}]]}\n", r"is given twice"),
        ("  seeds: 0\n", r"seeds: expected"),
        ("  seeds: 1000000\n", r"expected at most 100,000 seeds, got 1000000"),
        (
            "  seeds: 2\n  product: {training.seed: [1, 2]}\n",
            r"the key 'training.seed' is given twice; keep one of them",
        ),
        ("  product: {name: [a, b]}\n", r"the key 'name' cannot vary"),
        (
            "  product: {model: [{}], model.d_model: [16]}\n",
            r"'model.d_model' is a part of 'model'; only one of them can vary",
        ),
        (
            "  zip: [{model.n_layers: [1, 2], model.n_heads: [1]}]\n",
            r"expected lists of one length, but model.n_layers has 2, model.n_heads has 1 values",
        ),
        (
            "  product: {data.n_people: [8]}\n  exclude: [{data.n_peopl: 8}]\n",
            r"expected keys that the grid varies, got 'data.n_peopl'; did you mean 'data.n_people'",
        ),
        ("  product: {data.n_people: [8]}\n  exclude: [{data.n_people: 9}]\n", r"is no run of the grid"),
        (
            "  product: {data.n_people: [8, 16]}\n  exclude: [{data.n_people: [8, 15]}]\n",
            r"exclude: expected values of data.n_people that the grid has \(8, 16\), got 15: mend",
        ),
        ("  product: {data.n_people: [8]}\n  exclude: [{data.n_people: 8}]\n", r"every run is excluded"),
        ("  seeds: 400\n  product: {data.n_people: [" + "1, " * 300 + "1]}\n", "is given twice"),
        (
            "  seeds: 5000\n  product: {model.d_model: [" + ", ".join(map(str, range(2, 62, 2))) + "]}\n",
            r"describes 150,000 runs; expected at most 100,000",
        ),
    ],
)
def test_a_wrong_grid_is_refused_in_one_sentence(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        grid_of(tmp_path, section)
    assert len(str(caught.value).splitlines()) == 1


def test_the_problems_of_all_runs_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        grid_of(tmp_path, "  product: {model.d_model: [16, a, b], data.n_people: [8, 0]}\n")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "first in run d_model-16_n_people-0" in lines[0]


def test_runs_that_differ_in_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the runs data_root-a and data_root-.-a are the same"):
        grid_of(tmp_path, "  product: {data_root: [a, ./a]}\n")


@pytest.mark.slow
def test_ten_thousand_runs_are_validated_in_seconds(tmp_path: Path) -> None:
    began = time.process_time()
    sizes = ", ".join(map(str, range(4, 104, 4)))
    people = ", ".join(str(2**n) for n in range(1, 17))
    runs = grid_of(
        tmp_path, f"  product: {{model.d_model: [{sizes}], data.n_people: [{people}]}}\n  seeds: 25\n"
    )
    assert len({run.id for run in runs}) == 10_000
    assert time.process_time() - began < 30  # in the order of three; a scan of all pairs would take an hour

"""Grids: which runs they describe, their names and order, and every refusal."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apps.memory.settings import MemoryConfig
from nanollama.config import Config, config_hash
from nanollama.config.source import read_source
from nanollama.errors import ConfigError
from nanollama.launcher import grid as room
from nanollama.launcher.grid.expand import GridRun, expand
from nanollama.report.grouping import group_runs
from nanollama.training.intervention_config import LoadConfig

BASE = """\
study: memory
name: base
data: {n_people: 32, sources: [{kind: qa}]}
model: {implementation: transformer, d_model: 32, n_layers: 2, n_heads: 2}
training: {n_steps: 10}
"""


def grid_of(
    tmp_path: Path, text: str, base: str = BASE, config_class: type[Config] = MemoryConfig
) -> list[GridRun]:
    """The runs of the base config with this section ``grid``."""
    path = tmp_path / "grid.yaml"
    path.write_text(f"{base}grid:\n{text}", encoding="utf-8")
    source = read_source([str(path)])
    section = source.value.pop("grid")
    return expand(section, source, config_class, Path("runs/base"))


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
        ("  product: {study: [memory]}\n", r"'study' cannot vary: all runs of a grid are of one study; wr"),
        (
            "  product: {model.implementation: [[transformer, hugging_face]]}\n",
            r"'hugging_face' is a whole model, not one of several mixers: give it alone",
        ),
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


ARMS = """\
  arms:
    transfer: {starts_from: {arm: source, but: [head.*]}, training.n_steps: 5}
    source: {data.sources: [{kind: qatool}], data.n_people: 8}
    scratch: {}
  seeds: 2
"""


def test_arms_are_an_axis_and_runs_come_after_those_that_they_start_from(tmp_path: Path) -> None:
    freeze = "interventions: [{implementation: freeze, parameters: ['blocks.0.*']}]\n"
    runs = grid_of(tmp_path, f"{ARMS}  product: {{model.d_model: [16, 32]}}\n", BASE + freeze)
    assert values_of(runs) == [
        (seed, arm, d_model)
        for seed in (0, 1)
        for arm in ("source", "transfer", "scratch")
        for d_model in (16, 32)
    ]
    source, transfer = runs[0], runs[2]
    assert (source.name, transfer.name) == (
        "arm-source_d_model-16_seed-0",
        "arm-transfer_d_model-16_seed-0",
    )
    assert [run.after for run in runs[:6]] == [(), (), (source.name,), (runs[1].name,), (), ()]
    for run, n_people, n_steps, kind in ((source, 8, 10, "qatool"), (transfer, 32, 5, "qa")):
        assert isinstance(config := run.config, MemoryConfig)
        assert (config.data.n_people, config.training.n_steps) == (n_people, n_steps)
        assert config.data.sources[0].kind == kind
        assert (config.training.seed, config.model.d_model) == (0, 16)
    loads = [run.config.interventions[:-1] for run in runs if isinstance(run.config, MemoryConfig)]
    assert loads[0] == loads[-1] == ()
    load = LoadConfig(implementation="load", run=source.folder, but=("head.*",))
    assert loads[2] == (load,), "before what else is done to the model"


def test_a_chain_may_be_long_and_written_in_any_order(tmp_path: Path) -> None:
    runs = grid_of(
        tmp_path,
        "  arms: {c: {starts_from: b}, b: {starts_from: a}, d: {starts_from: b, data_root: x}, a: {}}\n",
    )
    assert [(run.name, run.after) for run in runs] == [
        ("arm-a", ()),
        ("arm-b", ("arm-a",)),
        ("arm-c", ("arm-b",)),
        ("arm-d", ("arm-b",)),
    ]


def test_an_arm_is_excluded_and_grouped_like_any_value(tmp_path: Path) -> None:
    runs = grid_of(tmp_path, f"{ARMS}  exclude: [{{arm: [scratch, transfer], training.seed: 1}}]\n")
    assert [run.name for run in runs] == [
        *("arm-source_seed-0", "arm-transfer_seed-0", "arm-scratch_seed-0", "arm-source_seed-1")
    ]
    settings = group_runs(runs, [run.values for run in runs], ("training.seed",))
    assert [setting.label for setting in settings] == ["arm=source", "arm=transfer", "arm=scratch"]


def arms(text: str) -> str:
    return f"  arms: {{a: {{}}, b: {{{text}}}}}\n"


def test_a_key_of_an_arm_or_an_axis_is_set_by_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    section = (
        "  arms: {a: {training.n_steps: 20}, b: {starts_from: a}}\n  product: {model.d_model: [8, 16]}\n"
    )
    path.write_text(f"{BASE}grid:\n{section}")
    keys = [
        "grid.arms.a.training.n_steps=5",
        "grid.arms.b.data.n_people=8",
        "grid.arms.b.starts_from={arm: a}",
        "grid.arms.b.starts_from.but=[head*]",
        "grid.product.model.d_model=[24]",
    ]
    source = read_source([str(path), *keys])
    first, second = expand(source.value.pop("grid"), source, MemoryConfig, Path("runs/base"))
    assert [run.config.training.n_steps for run in (first, second)] == [5, 10]  # type: ignore[attr-defined]
    assert [run.config.data.n_people for run in (first, second)] == [32, 8]  # type: ignore[attr-defined]
    assert [run.config.model.d_model for run in (first, second)] == [24, 24]  # type: ignore[attr-defined]
    assert second.config.interventions[0].but == ("head*",)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "  arms: {source: {}, b: {starts_from: sorce}}\n",
            r"grid.yaml:7: grid.arms.b.starts_from: expected one of source, b, got 'sorce'; did you",
        ),
        (arms("starts_from: b"), r"grid.arms: no run of these .* each starts from the next: b, b\."),
        (
            "  arms: {a: {starts_from: c}, b: {starts_from: a}, c: {starts_from: b}}\n",
            r"no run of these can be the first, each starts from the next: a, c, b, a\.",
        ),
        (
            f"{ARMS}  exclude: [{{arm: source, training.seed: 1}}]\n",
            r"grid.exclude leaves out the run of the arm 'source' that the run arm-transfer_seed-1 st",
        ),
        (arms("starts_from: {arm: a, butt: [x]}"), r"butt: unknown key; did you mean '.*but'"),
        (arms("starts_from: {but: [x]}"), r"starts_from.arm: required key is missing; expected a text"),
        (arms("starts_from: 5"), r"starts_from: expected a section, got 5"),
        ("  arms: {a: , b: {}}\n", r"grid.arms.a: expected a section, got null"),
        ("  arms: {a b: {}}\n", r"grid.arms.a b: expected a text matching"),
        (arms("model.d_modle: 16"), r"model.d_modle: unknown key; did you mean 'd_model'.*in run arm-b"),
        (arms("name: c"), r"grid.arms.b: the key 'name' cannot vary"),
        (
            arms("training.seed: 3").rstrip() + "\n  seeds: 2\n",
            r"grid.arms.b: the key 'training.seed' is given twice",
        ),
        (arms("data.n_people: 3, data: {}"), r"'data.n_people' is a part of 'data'; only one"),
        (arms("interventions: 3"), r"grid.yaml:7: interventions: expected a list.*got 3"),
        (arms("starts_from: a, interventions: {}"), r"grid.yaml:7: interventions: expected a list"),
        (arms(""), r"the runs arm-a and arm-b are the same"),
        (arms("data.n_people: 3") + "  product: {arm: [a]}\n", r"the key 'arm' is given twice"),
    ],
)
def test_wrong_arms_are_refused_in_one_sentence(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        grid_of(tmp_path, section)
    assert len(str(caught.value).splitlines()) == 1


class Plain(Config):
    """The config of a run that nothing can be done to."""

    name: str
    run_dir: str
    overwrite: bool
    size: int = 0


def test_runs_that_know_no_interventions_start_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs of this study have no key `interventions`, by which"):
        grid_of(tmp_path, arms("starts_from: a"), "name: base\n", Plain)
    assert len(grid_of(tmp_path, arms("size: 1"), "name: base\n", Plain)) == 2


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


def test_every_module_is_in_the_table_of_what_answers_what() -> None:
    names = {path.stem for path in Path(str(room.__file__)).parent.glob("*.py")} - {"__init__"}
    assert not [name for name in names if f"`{name}`" not in str(room.__doc__)]

"""Configs: reading, composing, overriding, writing back; test_config_messages.py has the wrong ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError
from toy import TOY, Deep, Source, ToyConfig, Wide

from nanollama.config import Config, config_hash, dump_config, first_difference, load_config
from nanollama.config.keys import describe_keys
from nanollama.config.source import read_source
from nanollama.errors import ConfigError


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "toy.yaml") -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return name


def load(text: str, *overrides: str) -> ToyConfig:
    return load_config(ToyConfig, [write(text), *overrides])


def test_a_file_becomes_a_config() -> None:
    config = load(TOY)
    assert config.seed == 3
    assert config.model == Wide(d_model=32)
    assert config.optimizer.learning_rate == 1e-4  # YAML 1.2: a number, though it has no dot
    assert config.sources == (Source(kind="qa"), Source(kind="qatool", weight=2.0))
    assert config.data_root == Path("data")


def test_the_path_may_be_named() -> None:
    assert load_config(ToyConfig, ["seed=5", f"config={write(TOY)}"]).seed == 5


def test_the_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(TOY, "home/toy.yaml")
    assert load_config(ToyConfig, ["config=~/toy.yaml"]).seed == 3


def test_a_byte_order_mark_is_no_part_of_a_key() -> None:
    assert load("\ufeff" + TOY).study == "toy"


def test_a_path_may_hold_an_equals_sign() -> None:
    assert load_config(ToyConfig, [write(TOY, "runs/lr=1e-3/config.yaml")]).seed == 3


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("max_minutes=2", "max_minutes", 2.0),
        ("max_minutes=null", "max_minutes", None),
        ("optimizer.learning_rate=3e-3", "optimizer.learning_rate", 3e-3),
        ("model.n_heads=4", "model.n_heads", 4),
        ("compile=true", "compile", True),
        ("device=1", "device", 1),
        ("name=yes", "name", "yes"),
        ("name=2024-01-31", "name", "2024-01-31"),
        ("name='1'", "name", "1"),
        ("limits.seconds=3", "limits", {"seconds": 3.0}),
        ("limits={a: 1}", "limits", {"a": 1.0}),
        ("sources=[]", "sources", ()),
    ],
)
def test_an_override_sets_one_key(override: str, key: str, value: object) -> None:
    found: Any = load(TOY, override)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_an_override_replaces_a_section_as_a_whole() -> None:
    assert load(TOY, "model={implementation: deep, n_layers: 2}").model == Deep(n_layers=2)


def test_an_override_reaches_into_a_list() -> None:
    assert load(TOY, "sources.0.weight=5").sources == (
        Source(kind="qa", weight=5),
        Source(kind="qatool", weight=2),
    )


def test_the_last_of_two_overrides_wins() -> None:
    assert load(TOY, "seed=1", "seed=2").seed == 2


def test_a_file_builds_on_its_base() -> None:
    write(TOY, "shared/toy.yaml")
    config = load("base: shared/toy.yaml\nmodel: {n_heads: 4}\nsources: [{kind: qa}]\n")
    assert config.seed == 3
    assert config.model == Wide(d_model=32, n_heads=4)  # sections are merged
    assert config.sources == (Source(kind="qa"),)  # lists are replaced


def test_bases_are_relative_to_the_file_that_names_them() -> None:
    write(TOY, "a/toy.yaml")
    write("base: ../a/toy.yaml\nseed: 4\n", "b/middle.yaml")
    assert load("base: b/middle.yaml\nname: near\n").seed == 4


def test_a_section_with_another_implementation_starts_anew() -> None:
    write(TOY, "far.yaml")
    config = load("base: far.yaml\nmodel: {implementation: deep, n_layers: 2}\n")
    assert config.model == Deep(n_layers=2)


SCALES = "scales: {paper: {model: {d_model: 64}, sources: []}, tiny: {seed: 9}}\n"


def test_a_config_has_the_size_that_is_asked_for() -> None:
    assert load(TOY + SCALES) == load(TOY + SCALES, "scale=small") == load(TOY)
    paper = load(TOY + SCALES, "seed=1", "scale=paper", "model.n_heads=8")
    assert (paper.model, paper.sources, paper.seed) == (Wide(d_model=64, n_heads=8), (), 1)
    assert load(TOY + SCALES + "scale: tiny\n").seed == 9
    assert load(TOY + SCALES + "scale: tiny\n", "scale=small").seed == 3
    write(TOY + SCALES, "far.yaml")
    near = load("base: far.yaml\nscales: {paper: {seed: 5}}\n", "scale=paper")
    assert (near.seed, near.model) == (5, Wide(d_model=64))  # sizes are merged as well


def test_another_size_has_another_name() -> None:
    source = read_source([write("name: run\nscales: {paper: {}, tiny: {name: mouse}}\n"), "scale=paper"])
    assert source.plain() == {"name": "run_paper"}
    assert read_source(["toy.yaml", "scale=tiny"]).plain() == {"name": "mouse"}
    assert read_source(["toy.yaml", "scale=paper", "name=mine"]).plain() == {"name": "mine"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TOY, "command line: scale=papre: the config has no section `scales`: it has one size."),
        (
            TOY + SCALES,
            "scale=papre: expected one of 'small', 'paper', 'tiny', got 'papre'; did you mean 'paper'?",
        ),
        (TOY + "scales: 3\n", "scales: expected a section a size, got 3."),
        (TOY + "scales: {papre: 3}\n", "scales.papre: expected a section, got 3."),
    ],
)
def test_sizes_that_are_not_there(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(text, "scale=papre")


@pytest.mark.parametrize("scale", ["[small, paper]", "{small: paper}", "[]"])
def test_a_size_that_is_no_name_is_refused(scale: str) -> None:
    for text, arguments in ((f"{TOY}{SCALES}scale: {scale}\n", []), (TOY + SCALES, [f"scale={scale}"])):
        with pytest.raises(ConfigError, match=r"expected one of 'small', 'paper', 'tiny', got [\[{]"):
            load(text, *arguments)


def test_paths_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("SCRATCH", "/scratch")
    for text, path in {
        "$SCRATCH/x": "/scratch/x",
        "${SCRATCH}x": "/scratchx",
        "~/x": "/home/ann/x",
        "$HOME": "/home/ann",
        "a/$$b": "a/$b",
        "a/~": "a/~",
    }.items():
        assert load(TOY, f"data_root={text}").data_root == Path(path)
    assert load(TOY, "name=$HOME").name == "$HOME"  # only paths are


def test_a_path_given_in_python_is_taken_as_it_is() -> None:
    config = ToyConfig(study="toy", model=Deep(n_layers=1), data_root=Path("~/$x"))
    assert config.data_root == Path("~/$x")


PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(Path)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    path=PATHS,
    name=NAMES,
    number=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    limits=st.dictionaries(
        st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False, allow_infinity=False)
    ),
)
def test_a_written_config_loads_to_an_equal_one(
    path: Path, name: str, number: float, limits: dict[str, float]
) -> None:
    config = ToyConfig(
        study="toy",
        data_root=path,
        name=name,
        max_minutes=number,
        limits=limits,
        model=Deep(n_layers=1),
        sources=(Source(kind="qa", weight=number),),
    )
    again = load(dump_config(config))
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert first_difference(config, again) is None


@pytest.mark.parametrize("path", ["a$b", "$HOME", "~", "~ann/x", "$$", "a b", "ä", "x/$"])
def test_a_written_path_means_itself(path: str) -> None:
    config = ToyConfig(study="toy", model=Deep(n_layers=1), data_root=Path(path))
    assert load(dump_config(config)).data_root == Path(path)


def test_a_written_config_is_plain_to_read() -> None:
    lines = dump_config(load(TOY, f"name={'long name ' * 30}x")).splitlines()
    assert lines[:4] == ["study: toy", "seed: 3", "data_root: data", "run_dir: null"]
    assert "  learning_rate: 0.0001" in lines
    assert len(lines) == 21  # one key a line, defaults included


def test_the_hash_is_of_the_values() -> None:
    reordered = "\n".join(["seed: 3", *TOY.replace("seed: 3\n", "").splitlines()])
    assert config_hash(load(TOY)) == config_hash(load(reordered)) == "416ef93ece1b"
    assert config_hash(load(TOY, "seed=4")) != config_hash(load(TOY))
    whole = ToyConfig(study="toy", model=Deep(n_layers=1), max_minutes=2)
    assert config_hash(whole) == config_hash(whole.model_copy(update={"max_minutes": 2.0}))


@pytest.mark.parametrize(
    ("overrides", "difference"),
    [
        ([], None),
        (["seed=4", "name=x"], "seed is 3 there and 4 here"),
        (["model.d_model=64"], "model.d_model is 32 there and 64 here"),
        (["run_dir=x"], "run_dir is null there and 'x' here"),
        (["sources.1.weight=3"], "sources.1.weight is 2.0 there and 3.0 here"),
        (["sources=[]"], r'sources is [{"kind": "qa", '),
        (["limits.a=1"], "limits.a is 1.0 here and absent there"),
        (
            ["model={implementation: deep, n_layers: 2}"],
            "model.implementation is 'wide' there and 'deep' here",
        ),
    ],
)
def test_the_first_difference_is_named(overrides: list[str], difference: str | None) -> None:
    found = first_difference(load(TOY), load(TOY, *overrides))
    assert found == difference if difference is None else found is not None and found.startswith(difference)


def test_a_key_that_is_absent_here_is_named() -> None:
    assert first_difference(load(TOY, "limits.a=1"), load(TOY)) == "limits.a is 1.0 there and absent here"


def test_a_config_cannot_change() -> None:
    config = load(TOY)
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 4  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.model.n_heads = 4  # type: ignore[misc]


def test_defaults_are_validated() -> None:
    class Defaults(Config):
        rate: float = Field(1, description="A number.")
        n_steps: int = Field(0, ge=1, description="A default that is wrong.")

    assert type(Defaults(n_steps=1).rate) is float  # so that its hash is that of the loaded config
    with pytest.raises(ValidationError, match="n_steps"):
        Defaults()


def test_python_cannot_misspell_a_key_either() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Source(kind="qa", wieght=1)  # type: ignore[call-arg]


def test_keys_are_described() -> None:
    infos = {f"{info.key} {info.variant}".strip(): info for info in describe_keys(ToyConfig)}
    assert all(info.description for info in infos.values())
    expected = {key: (info.expected, info.default) for key, info in infos.items()}
    assert expected["study"] == ("'toy'", None)
    assert expected["data_root"] == ("a path", "'data'")
    assert expected["run_dir"] == ("a path or null", "null")
    assert expected["model"] == ("a section with `implementation` 'wide' or 'deep'", None)
    assert expected["model.d_model wide"] == ("an integer >= 1", None)
    assert expected["model.decay deep"] == ("a number > 0 and < 1", "0.5")
    assert expected["optimizer"] == ("a section", "its keys' defaults")
    assert expected["sources"] == ("a list with at most 3 entries, each a section", "[]")
    assert expected["sources.*.kind"] == ("one of 'qa', 'qatool'", None)
    assert expected["device"] == ("one of 'auto', 'cpu' or an integer", "'auto'")
    assert expected["max_minutes"] == ("a number > 0 or null", "null")
    assert expected["name"] == ("a text with at least 1 character and matching `^[^/]*$`", "'toy'")
    assert expected["limits"] == ("a mapping, each a number", "{}")

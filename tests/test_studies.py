"""What every study promises: keys that are described, configs that cannot change, examples that load."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from nanollama import studies
from nanollama.cli.schema import FOLDER, json_schema
from nanollama.config import Config, config_hash, load_config
from nanollama.config.keys import describe_keys
from nanollama.errors import ConfigError, UserError
from nanollama.launcher.plan import read_plan

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.parent.name for path in ROOT.glob("apps/*/settings.py"))
KINDS = [
    (study, kind)
    for study in STUDIES
    for kind in importlib.import_module(f"apps.{study}.settings").STUDY.configs
]
EXAMPLES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("apps/*/config/*.yaml"))


@pytest.fixture(autouse=True)
def in_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def config_classes(study: str) -> set[type[Config]]:
    """The classes of whole configs in the modules ``apps.<study>.*settings``."""
    paths = (ROOT / "apps" / study).glob("*settings.py")
    modules = [importlib.import_module(f"apps.{study}.{path.stem}") for path in paths]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return {value for value in classes if issubclass(value, Config) and "study" in value.model_fields}


@pytest.mark.parametrize("study", STUDIES)
def test_every_key_is_described(study: str) -> None:
    assert config_classes(study) >= set(studies.find_study(study).configs.values())
    for config_class in config_classes(study):
        infos = describe_keys(config_class)
        assert infos
        assert not [info.key for info in infos if not info.description]


@pytest.mark.parametrize("study", STUDIES)
def test_a_config_to_train_names_its_study(study: str) -> None:
    (key,) = (
        info for info in describe_keys(studies.find_study(study).configs["train"]) if info.key == "study"
    )
    assert (key.expected, key.default) == (f"'{study}'", None)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_right_and_cannot_change(example: str) -> None:
    for config in configs_of(example):
        hash(config)  # a list or a mapping somewhere inside could be changed
        assert config_hash(config)


@cache
def configs_of(example: str) -> list[Config]:
    """The configs of an example: one of the study's kinds of config, or the runs of a grid."""
    problems = []
    for config_class in config_classes(studies.study_of([example])):
        try:
            return [load_config(config_class, [example])]
        except ConfigError as error:
            problems.append(f"{config_class.__name__}:\n{error}")
    try:
        return [run.config for run in read_plan([example]).runs]
    except ConfigError as error:
        pytest.fail("\n".join([*problems, f"as a grid:\n{error}"]))


@pytest.mark.parametrize(("study", "kind"), KINDS)
def test_the_schemas_of_editors_are_up_to_date(study: str, kind: str) -> None:
    written = json.loads((ROOT / "apps" / study / FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    current = json_schema(studies.find_study(study).configs[kind])
    assert keys_told(written) == keys_told(current), f"run `nanollama schema {study} --write`"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_schema_that_an_example_names_accepts_it_and_no_misspelt_key(example: str) -> None:
    study = studies.find_study(studies.study_of([example]))
    kind = next(kind for kind, own in study.configs.items() if own is type(configs_of(example)[0]))
    text = Path(example).read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# yaml-language-server: $schema=.schema/{kind}.json"
    validator = Draft202012Validator(json.loads((study.folder / FOLDER / f"{kind}.json").read_bytes()))
    tree = YAML(typ="safe", pure=True).load(text)
    assert not [f"{error.json_path}: {error.message}" for error in validator.iter_errors(tree)]
    for path in sections_of(tree):
        changed = section = copy.deepcopy(tree)
        for part in path:
            section = section[part]
        section["misspelt"] = 1
        assert not validator.is_valid(changed), f"a misspelt key in {path}"


def keys_told(schema: Any) -> list[tuple[str, str, str]]:
    """The keys of a schema at any depth: name, description, default. The rest, pydantic may put otherwise."""
    if isinstance(schema, list):
        return [told for item in schema for told in keys_told(item)]
    if not isinstance(schema, dict):
        return []
    here = [
        (name, str(key.get("description")), str(key.get("default")))
        for name, key in schema.get("properties", {}).items()
    ]
    return sorted([*here, *(told for value in schema.values() for told in keys_told(value))])


def sections_of(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Sections of a config whose keys are fixed: not values by dotted key, nor names of measures or sizes."""
    if isinstance(tree, dict):
        yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        chooses_runs = key in ("exclude", "runs", "minus", "over", "beyond")
        free = chooses_runs or key in ("product", "zip", "arms", "stop_when", "sizes")
        if isinstance(value, dict | list) and not free:
            yield from sections_of(value, (*path, key))


def test_a_run_of_a_script_is_told_from_a_misspelt_study(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("study: reversals\n")
    with pytest.raises(UserError, match=r"config\.yaml:1: study: expected one of .*, got 'reversals'"):
        studies.study_of([str(path)])
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(UserError, match="of no study of this checkout, its study is 'reversals': a script"):
        studies.run_verb_of("chat", str(tmp_path), [])
    with pytest.raises(UserError, match=r"command line: study=memroy: expected one of .*, got 'memroy'"):
        studies.study_of([str(path), "study=memroy"])

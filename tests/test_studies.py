"""What every study promises: keys that are described, configs that cannot change, examples that load."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from nanollama import studies
from nanollama.config import Config, config_hash, load_config
from nanollama.config.keys import describe_keys
from nanollama.errors import ConfigError
from nanollama.launcher.plan import read_plan

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.parent.name for path in ROOT.glob("apps/*/settings.py"))
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
    assert config_classes(study) >= set(studies.config_classes(study).values())
    for config_class in config_classes(study):
        infos = describe_keys(config_class)
        assert infos
        assert not [info.key for info in infos if not info.description]


@pytest.mark.parametrize("study", STUDIES)
def test_a_config_to_train_names_its_study(study: str) -> None:
    (key,) = (info for info in describe_keys(studies.config_classes(study)["train"]) if info.key == "study")
    assert (key.expected, key.default) == (f"'{study}'", None)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_right_and_cannot_change(example: str) -> None:
    for config in configs_of(example):
        hash(config)  # a list or a mapping somewhere inside could be changed
        assert config_hash(config)


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

"""What is said about a wrong config: file and line, dotted key, what was expected, what came."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field
from toy import TOY, Source, ToyConfig

from nanollama.config import Config, ConfigPath, load_config
from nanollama.config import source as config_source
from nanollama.config.keys import describe_type
from nanollama.errors import ConfigError
from nanollama.wording import shorten, show

KNOWN = f"(known: {', '.join(ToyConfig.model_fields)})"
HEADED = "(known: implementation, d_model, n_heads)"
MOVED = "(known: learning_rate, warmup_steps)"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOWHERE", raising=False)


def write(content: str | bytes, name: str = "toy.yaml") -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def problems(argv: list[str], config_class: type[Config] = ToyConfig) -> list[str]:
    """The lines that are said about a config that must not load."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_class, argv)
    return str(caught.value).splitlines()


def test_arguments_that_are_none_are_said_with_all_the_rest() -> None:
    path = write(TOY)
    assert problems([path, "nonsense", "--lr", "0.1", "sed=3", "compile=1", "seed="]) == [
        "command line: --lr: unknown option, keys are set by `key=value`, such as `model.d_model=32`.",
        "command line: nonsense: expected `key=value` with a dotted key, such as `model.d_model=32`.",
        "command line: seed=: has no value; write `seed=null` if nothing is meant.",
        "command line: compile=1: expected true or false, got 1.",
        f"command line: sed=3: unknown key; did you mean 'seed'? {KNOWN}",
    ]
    assert problems(["--lr", "nonsense"]) == [
        "command line: --lr: unknown option, keys are set by `key=value`, such as `model.d_model=32`.",
        "command line: no config given; expected `[config=]PATH [key=value ...]`.",
    ]
    assert problems(["nowhere.yaml", "nonsense"])[-1].startswith("nowhere.yaml: no such file")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "1.5", "expected an integer >= 0, got 1.5."),
        ("seed", "'1'", "expected an integer >= 0, got '1'."),
        ("seed", "true", "expected an integer >= 0, got true."),
        ("seed", "-1", "expected an integer >= 0, got -1."),
        ("seed", "null", "expected an integer >= 0, got null."),
        ("compile", "1", "expected true or false, got 1."),
        ("compile", "yes", "expected true or false, got 'yes'."),
        ("name", "3", "expected a text with at least 1 character and matching `^[^/]*$`, got 3."),
        ("name", "''", "expected a text with at least 1 character and matching `^[^/]*$`, got ''."),
        ("max_minutes", "0", "expected a number > 0 or null, got 0."),
        ("max_minutes", ".inf", "expected a number > 0 or null, got Infinity."),
        ("max_minutes", ".nan", "expected a number > 0 or null, got NaN."),
        ("device", "cup", "expected one of 'auto', 'cpu' or an integer, got 'cup'; did you mean 'cpu'?"),
        ("device", "gpu0", "expected one of 'auto', 'cpu' or an integer, got 'gpu0'."),
        ("data_root", "''", "expected a path, got ''."),
        ("data_root", '"a\\0b"', "expected a path, got 'a\\x00b'."),
        ("data_root", "3", "expected a path, got 3."),
        ("data_root", "$NOWHERE/x", "the environment variable 'NOWHERE' in '$NOWHERE/x' is not defined."),
        ("data_root", "x/${NOWHERE}", "the environment variable 'NOWHERE' in 'x/${NOWHERE}' is not defined."),
        (
            "data_root",
            "~nobody_at_all/x",
            "the home folder '~nobody_at_all' in '~nobody_at_all/x' does not exist.",
        ),
        ("run_dir", "[a]", 'expected a path, got ["a"].'),
        ("limits", "3", "expected a mapping, each a number, got 3."),
        ("sources", "qa", "expected a list with at most 3 entries, each a section, got 'qa'."),
        ("optimizer", "adam", "expected a section, got 'adam'."),
        ("optimizer", "null", "expected a section, got null."),
        ("model", "3", "expected a section with `implementation` 'wide' or 'deep', got 3."),
        ("study", "toys", "expected 'toy', got 'toys'; did you mean 'toy'?"),
    ],
)
def test_a_wrong_value(key: str, value: str, message: str) -> None:
    assert problems([write(TOY), f"{key}={value}"]) == [f"command line: {key}={value}: {message}"]
    others = "".join(f"{line}\n" for line in TOY.splitlines() if not line.startswith(f"{key}:"))
    if key not in ("model", "optimizer", "sources"):
        line = others.count("\n") + 1
        assert problems([write(f"{others}{key}: {value}\n")]) == [f"toy.yaml:{line}: {key}: {message}"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.d_modle=3", f"unknown key; did you mean 'd_model'? {HEADED}"),
        ("model.colour=3", f"unknown key {HEADED}"),
        ("d_model=3", f"unknown key; did you mean 'model.d_model'? {KNOWN}"),
        ("optimizer.seed=3", f"unknown key; did you mean 'seed'? {MOVED}"),
        ("model.learning_rate=3", f"unknown key; did you mean 'optimizer.learning_rate'? {HEADED}"),
        ("sources.0.wieght=3", "unknown key; did you mean 'weight'? (known: kind, weight)"),
        ("sources.1.kind=q", "expected one of 'qa', 'qatool', got 'q'; did you mean 'qa'?"),
        (
            "model={implementation: deep, n_layers: 1, n_heads: 2}",
            "model.n_heads: unknown key; it belongs to implementation 'wide' "
            "(known: implementation, n_layers, decay)",
        ),
        ("model.d_model=33", "d_model (33) must be divisible by n_heads (2)."),
        ("limits.a=b", "expected a number, got 'b'."),
        ("model.implementation=wied", "expected one of 'wide', 'deep', got 'wied'; did you mean 'wide'?"),
        ("model.implementation=3", "expected one of 'wide', 'deep', got 3."),
        ("seed", "expected `key=value` with a dotted key, such as `model.d_model=32`."),
        ("=3", "expected `key=value` with a dotted key, such as `model.d_model=32`."),
        ("model..x=3", "expected `key=value` with a dotted key, such as `model.d_model=32`."),
        ("seed =3", "expected `key=value` with a dotted key, such as `model.d_model=32`."),
        ("seed=", "has no value; write `seed=null` if nothing is meant."),
        ("seed=#3", "is empty; expected a value."),
        ("name=[a", "is not valid YAML: expected ',' or ']', but got '<stream end>'."),
        ("name=@a", "is not valid YAML: found character '@' that cannot start any token."),
        ("limits={a: 1, a: 2}", "a: duplicate key; keep one of them."),
        ("seed.x=3", "'seed' is 3 (toy.yaml:2), not a section with a key 'x'."),
        ("sources.2.kind=qa", "'sources' is a list; expected an index from 0 to 1, got '2'."),
        ("sources.first.kind=qa", "'sources' is a list; expected an index from 0 to 1, got 'first'."),
        ("--seed=3", "unknown option, keys are set by `key=value`; did you mean 'seed=3'?"),
        ("--verbose", "unknown option, keys are set by `key=value`, such as `model.d_model=32`."),
    ],
)
def test_a_wrong_override(override: str, message: str) -> None:
    assert problems([write(TOY), override]) == [f"command line: {override}: {message}"]


def test_an_index_into_an_empty_list() -> None:
    path = write(TOY.partition("sources")[0] + "sources: []\n")
    message = "'sources' is a list; expected no index: the list is empty, got '0'."
    assert problems([path, "sources.0.kind=qa"]) == [f"command line: sources.0.kind=qa: {message}"]


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = """\
study: toy
optimizer:
  learning_rate: fast
  warmup: 3
sources:
  - kind: qa
  - weight: 0
    kind: qa
model:
  implementation: wide
  d_model: 32.0
  n_haeds: 2
seed: x
colour: blue
"""
    assert problems([write(text), "max_minutes=soon", "device=x"]) == [
        "toy.yaml:3: optimizer.learning_rate: expected a number > 0, got 'fast'.",
        f"toy.yaml:4: optimizer.warmup: unknown key; did you mean 'warmup_steps'? {MOVED}",
        "toy.yaml:7: sources.1.weight: expected a number > 0, got 0.",
        "toy.yaml:11: model.d_model: expected an integer >= 1, got 32.0.",
        f"toy.yaml:12: model.n_haeds: unknown key; did you mean 'n_heads'? {HEADED}",
        "toy.yaml:13: seed: expected an integer >= 0, got 'x'.",
        f"toy.yaml:14: colour: unknown key {KNOWN}",
        "command line: device=x: expected one of 'auto', 'cpu' or an integer, got 'x'.",
        "command line: max_minutes=soon: expected a number > 0 or null, got 'soon'.",
    ]


def test_missing_keys() -> None:
    model = "required key is missing; expected a section with `implementation` 'wide' or 'deep'."
    assert problems([write("seed: 1\n")]) == [
        "toy.yaml: study: required key is missing; expected 'toy'.",
        f"toy.yaml: model: {model}",
    ]
    assert problems([write("study: toy\n\nmodel:\n  implementation: wide\n")]) == [
        "toy.yaml:3: model.d_model: required key is missing; expected an integer >= 1."
    ]
    assert problems([write("study: toy\nmodel:\n  d_model: 3\n")]) == [
        "toy.yaml:2: model.implementation: required key is missing; expected one of 'wide', 'deep'."
    ]


def test_a_misspelt_required_key_is_one_problem() -> None:
    (line,) = problems([write("study: toy\nmodel: {implementation: wide, d_modle: 3}\n")])
    assert "unknown key; did you mean 'd_model'?" in line


def test_a_value_from_a_base_names_the_file_of_the_base() -> None:
    write(TOY + "max_minutes: -1\n", "far/base.yaml")
    assert problems([write("base: far/base.yaml\nseed: x\n")]) == [
        "far/base.yaml:11: max_minutes: expected a number > 0 or null, got -1.",
        "toy.yaml:2: seed: expected an integer >= 0, got 'x'.",
    ]


def test_an_argument_that_holds_the_problem_deep_inside() -> None:
    argument = "model={implementation: wide, d_model: 0}"
    assert problems([write(TOY), argument]) == [
        f"command line: {argument}: model.d_model: expected an integer >= 1, got 0."
    ]
    assert problems([write(TOY), "modle.d_model=3"]) == [
        f"command line: modle.d_model=3: modle: unknown key; did you mean 'model'? {KNOWN}"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "toy.yaml: is empty; expected keys and values (`key: value`)."),
        (" \n\n", "toy.yaml: is empty; expected keys and values (`key: value`)."),
        ("# later\n", "toy.yaml: is empty; expected a value."),
        ("- 1\n", "toy.yaml: expected keys and values (`key: value`) at the top, got a list."),
        (
            "seed\n",
            "toy.yaml: expected keys and values (`key: value`) at the top, got the single value 'seed'.",
        ),
        (b"\x80\x81", "toy.yaml: is not UTF-8 text (byte 0x80 at offset 0); expected a YAML file."),
        (b"a: 1" * 300_000, "toy.yaml: is larger than 1 MiB; expected a YAML file with keys and values."),
        (
            "seed: 1\nname: [a, b\n",
            "toy.yaml:3:1: is not valid YAML: expected ',' or ']', but got '<stream end>'.",
        ),
        ("seed: 1\n  name: b\n", "toy.yaml:2:7: is not valid YAML: mapping values are not allowed here."),
        ("seed: 1\n---\nseed: 2\n", "toy.yaml:2:1: is not valid YAML: found another document."),
        (
            "seed: 1\nname: a\nseed: 2\n",
            "toy.yaml:3: seed: duplicate key (first in line 1); keep one of them.",
        ),
        (
            "name: &a x\nrun_dir: *a\n",
            "toy.yaml:2: YAML aliases (*name) are not supported; write the value out.",
        ),
        ("<<: {seed: 1}\n", "toy.yaml:1: YAML merge keys (<<) are not supported; use `base: FILE`."),
        ("[1]: 2\n", "toy.yaml:1: expected a name as the key, got a list or a mapping."),
        (f"name: {'[' * 40}{']' * 40}\n", "toy.yaml:1: is nested more than 32 levels deep."),
        (f"name: {'[' * 9000}\n", "toy.yaml: is nested too deeply to be a config."),
        (f"seed: {'9' * 6000}\n", f"toy.yaml:1: the value '{'9' * 96}... cannot be read."),
        ('name: "\\ud800"\n', "toy.yaml:1: the value '\\ud800' cannot be read."),
        ("base: 3\n", "toy.yaml:1: base: expected the path of one file, got 3."),
        ("base: toy.yaml\n", "toy.yaml:1: base: 'toy.yaml' leads back to a file that builds on it."),
        ("base: tov.yaml\n", "toy.yaml:1: base: tov.yaml: no such file; did you mean 'toy.yaml'?"),
        (
            "base: $NOWHERE\n",
            "toy.yaml:1: base: the environment variable 'NOWHERE' in '$NOWHERE' is not defined.",
        ),
        ("base: .\n", "toy.yaml:1: base: .: is a folder, expected a YAML file (configs there: toy.yaml)."),
    ],
)
def test_a_file_that_is_no_config(content: str | bytes, message: str) -> None:
    assert problems([write(content)]) == [message]


def test_a_tag_is_refused() -> None:
    (line,) = problems([write("name: !!python/object:os.system x\n")])
    assert line.startswith("toy.yaml:1: the YAML tag 'tag:yaml.org,2002:python/object:os.system' is not")


def test_a_longer_cycle_of_bases() -> None:
    write("base: toy.yaml\n", "b.yaml")
    assert problems([write("base: b.yaml\n")]) == [
        "b.yaml:1: base: 'toy.yaml' leads back to a file that builds on it."
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "command line: no config given; expected `[config=]PATH [key=value ...]`."),
        (["seed=3"], "command line: no config given; expected `[config=]PATH [key=value ...]`."),
        (["config="], "command line: no config given; expected `[config=]PATH [key=value ...]`."),
        (
            ["a.yaml", "config=b.yaml"],
            "command line: two configs given, 'a.yaml' and 'b.yaml'; expected one.",
        ),
        (["config/debgu.yaml"], "config/debgu.yaml: no such file; did you mean 'config/debug.yaml'?"),
        (["debug.yaml"], "debug.yaml: no such file; its folder holds no YAML file."),
        (["config/zzz"], "config/zzz: no such file (configs there: debug.yaml, small.yaml)."),
        (["confg/debug.yaml"], "confg/debug.yaml: no such file; the folder 'confg' does not exist."),
        (["config"], "config: is a folder, expected a YAML file (configs there: debug.yaml, small.yaml)."),
        (["config/debug.yaml/x"], "config/debug.yaml/x: cannot be read: Not a directory."),
        (["a\0b"], "a\0b: cannot be read: embedded null byte."),
        (["x" * 300], f"{'x' * 300}: cannot be read: File name too long."),
    ],
)
def test_a_path_that_leads_nowhere(argv: list[str], message: str) -> None:
    write(TOY, "config/debug.yaml")
    write(TOY, "config/small.yaml")
    assert problems(argv) == [message]


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, mode: str) -> None:  # the superuser, who may run this, is refused nothing
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(config_source, "open", refuse, raising=False)
    assert problems(["toy.yaml"]) == ["toy.yaml: cannot be read: Permission denied."]


class Steps(Config):
    """Keys of mappings, fixed lists and texts of a mapping."""

    at: dict[int, float] = Field({}, description="Values by step.")
    sources: tuple[Source, ...] = Field((Source(kind="qa"),), min_length=1, description="Sections.")
    pair: tuple[int, str] = Field((0, ""), description="A number and a text.")
    paths: tuple[ConfigPath, ...] = Field((Path("x"),), min_length=1, description="Paths.")


def test_keys_of_mappings_and_fixed_lists() -> None:
    path = write("at: {100: 1}\n")
    assert load_config(Steps, [path]).at == {100: 1.0}
    assert problems([path, "at.x=1"], Steps) == ["command line: at.x=1: expected an integer, got 'x'."]
    assert problems([path, "pair=[1, 2]"], Steps) == [
        "command line: pair=[1, 2]: pair.1: expected a text, got 2."
    ]
    assert problems([path, "pair=[1]"], Steps) == [
        "command line: pair=[1]: pair.1: entry is missing; expected a text."
    ]
    assert problems([path, "paths=[a, 3]"], Steps) == [
        "command line: paths=[a, 3]: paths.1: expected a path, got 3."
    ]
    assert problems([path, "sources=[{kind: quiz}]"], Steps) == [
        "command line: sources=[{kind: quiz}]: sources.0.kind: expected one of 'qa', 'qatool', got 'quiz'."
    ]


def test_types_in_words() -> None:
    assert describe_type(Mapping[str, int]) == "a mapping, each an integer"
    assert describe_type(int | None) == "an integer or null"
    assert describe_type(list[str]) == "a list, each a text"
    assert describe_type(list[Annotated[int, Field(gt=0, lt=9)]]) == "a list, each an integer > 0 and < 9"
    assert describe_type(BaseModel | None) == "a section or null"
    assert describe_type(bytes) == "bytes"


def test_values_in_words() -> None:
    assert [show(value) for value in (None, True, 1e-4, "a", [1, "a"])] == [
        "null",
        "true",
        "0.0001",
        "'a'",
        '[1, "a"]',
    ]
    assert shorten("x" * 200) == "x" * 97 + "..."
    assert show("postgresql://ann:secret@host/db") == "'postgresql://ann:***@host/db'"

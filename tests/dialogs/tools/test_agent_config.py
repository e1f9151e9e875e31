"""What a database config accepts, and that it never gives a password away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nanollama.config import Config, dump_config, load_config
from nanollama.dialogs.tools import DatabaseConfig
from nanollama.dialogs.tools.config import password_variable
from nanollama.errors import ConfigError


class Study(Config):
    tool: DatabaseConfig


def write_study(folder: Path, **keys: str) -> str:
    keys = {"attributes": "[age]", **keys, "table": keys.get("table", "people")}
    lines = [f"  {key}: {value}" for key, value in keys.items()]
    path = folder / "study.yaml"
    path.write_text("\n".join(["tool:", *lines]))
    return str(path)


@pytest.mark.parametrize(
    "keys",
    [
        {"path": "people.sqlite"},
        {"path": "people.sqlite", "language": "sql", "limits": "{max_rows: 3}"},
        {"url": "postgresql+psycopg://reader:$SECRET@localhost:5432/people"},
        {"url": "postgresql+psycopg://reader@localhost:5432/people?passfile=/home/reader/.pgpass"},
        {"url": "postgresql+psycopg://localhost/people"},
        {"url": "sqlite:////data/people.sqlite"},
    ],
)
def test_good_config_can_be_written_and_read_again(tmp_path: Path, keys: dict[str, str]) -> None:
    config = load_config(Study, [write_study(tmp_path, **keys)])
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config))
    assert load_config(Study, [str(again)]) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "study.yaml:1: tool: expected either 'path' .an SQLite file. or 'url'"),
        ({"path": "a", "url": "sqlite:///b"}, "expected either 'path'"),
        ({"url": "mysql://me@localhost/people", "language": "sql"}, "with 'url' use 'find'"),
        ({"path": "a", "attributes": "[age, age]"}, "expected different names as key and attributes"),
        ({"path": "a", "attributes": "[name]"}, "expected different names as key and attributes"),
        ({"path": "a", "attributes": "[]"}, "study.yaml:2: tool.attributes"),
        ({"path": "a", "attributes": "['age; DROP TABLE people']"}, "tool.attributes.0"),
        ({"path": "a", "table": '"people]"'}, "tool.table"),
        ({"path": "a", "language": "cypher"}, "expected one of 'find', 'sql', got 'cypher'"),
        ({"path": "a", "limits": "{max_rows: 0}"}, "tool.limits.max_rows: expected an integer >= 1"),
    ],
)
def test_wrong_config_is_refused(tmp_path: Path, keys: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Study, [write_study(tmp_path, **keys)])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@localhost/people",
        "postgresql+psycopg://:hunter2@localhost/people",
        "postgresql+psycopg://me:hunter2/a?b@localhost/people",
        "postgresql+psycopg://me:$HOME/hunter2@localhost/people",
        "postgresql+psycopg://localhost/people?user=me&password=hunter2",
        "postgresql+psycopg://localhost/people?sslpassword=hunter2",
    ],
)
def test_password_in_a_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        ConfigError, match=r"study\.yaml:3: tool\.url: the URL holds a password; write"
    ) as caught:
        load_config(Study, [write_study(tmp_path, url=f'"{url}"')])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("password", "name"), [("$A_1", "A_1"), ("${A}", "A"), ("a$A", None), ("$", None)])
def test_password_variable(password: str, name: str | None) -> None:
    assert password_variable(password) == name


def test_package_loads_without_heavy_imports() -> None:
    code = (
        "import sys, nanollama.dialogs.tools.database; assert not {'sqlalchemy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

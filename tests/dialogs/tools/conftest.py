"""Tools on a small people database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_people import ATTRIBUTES, PEOPLE, write_people

from nanollama.dialogs.tools import DatabaseConfig, Tool, build_tool


@pytest.fixture(scope="session")
def people_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people") / "people.sqlite", PEOPLE)


@pytest.fixture
def open_tool(people_file: Path) -> Iterator[Callable[..., Tool]]:
    """``open_tool(language="sql", ...)``: a tool on the people, closed after the test."""
    tools: list[Tool] = []

    def open_(**keys: Any) -> Tool:
        if "url" not in keys:
            keys.setdefault("path", people_file)
        tools.append(build_tool(DatabaseConfig(**{"table": "people", "attributes": ATTRIBUTES, **keys})))
        return tools[-1]

    yield open_
    for tool in tools:
        tool.close()

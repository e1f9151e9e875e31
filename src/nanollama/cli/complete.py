"""What shells may complete: configs, their keys and values, runs and studies. Nothing heavy is loaded for it.

The scripts are those of typer, which asks the command itself at each key press. Where nothing fits, shells
complete the names of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

VARIABLE = "_NANOLLAMA_COMPLETE"
"""Of the environment: a shell asks, and does not run anything."""
SHELLS = ("bash", "zsh", "fish")
CONFIGS = ("*.yaml", "config/*.yaml", "apps/*/config/*.yaml")
RUNS = ("runs/*/config.yaml", "runs/*/*/config.yaml")
STUDIES = "apps/*/settings.py"
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)")
ABOUT_FILE = ("base", "scale", "scales", "grid")
MAX_DEPTH = 8
RETURN = "    return 0"
NO_SPACE = "    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2> /dev/null\n"
"""For bash: behind a key follows its value."""


def script(shell: str) -> str:
    """What a shell has to read to complete this command.

    Raises:
        typer.BadParameter: a shell that is not known.
    """
    if shell not in SHELLS:
        raise typer.BadParameter(f"expected one of {', '.join(SHELLS)}, got '{shell}'")
    from typer.completion import get_completion_script

    text = get_completion_script(prog_name="nanollama", complete_var=VARIABLE, shell=shell)
    return text.replace(RETURN, NO_SPACE + RETURN) if shell == "bash" else text


def configs(incomplete: str) -> list[str]:
    """Files of configs of this folder, or of the studies of a checkout."""
    found = (path.as_posix() for pattern in CONFIGS for path in Path().glob(pattern))
    return _fitting(found, incomplete)


def runs(incomplete: str) -> list[str]:
    """Folders of runs."""
    found = (path.parent.as_posix() for pattern in RUNS for path in Path().glob(pattern))
    return _fitting(found, incomplete)


def runs_and_configs(incomplete: str) -> list[str]:
    """Folders of runs, and configs of grids."""
    return [*runs(incomplete), *configs(incomplete)]


def studies(incomplete: str) -> list[str]:
    """Names of the studies of a checkout."""
    return _fitting((path.parent.name for path in Path().glob(STUDIES)), incomplete)


def keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Dotted keys of the config that is named, each with its ``=``, or values of one that has few."""
    config = ctx.params.get("config")
    schema = _schema_of(Path(config)) if isinstance(config, str) else None
    if schema is None:
        return []
    before: list[str] = list(ctx.params.get("keys") or ())
    *_, last, word = ["", "", *before]
    if last and word == "=":  # bash parts words at "="
        return _fitting(_values(schema, last), incomplete)
    if word and "=" not in word and last != "=":  # and then "=" is what is not complete
        return _fitting(_values(schema, word), incomplete)
    key, is_value, begun = incomplete.partition("=")
    if is_value:
        return [f"{key}={value}" for value in _fitting(_values(schema, key), begun)]
    return _fitting((f"{name}=" for name, _ in _walk(schema, schema)), incomplete)


def _fitting(found: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in found if name.startswith(incomplete)})


def _schema_of(config: Path) -> Mapping[str, Any] | None:
    """The schema that the first line of a config names; None where there is none that can be read."""
    try:
        with config.open(encoding="utf-8") as file:
            found = MODELINE.match(file.readline())
        schema = json.loads((config.parent / found[1]).read_text(encoding="utf-8")) if found else None
    except (OSError, ValueError):
        return None
    return schema if isinstance(schema, dict) else None


def _walk(
    schema: Mapping[str, Any], node: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each dotted key below a part of a schema, with what it may be; sections are gone into."""
    for part in _alternatives(schema, node):
        for name, below in part.get("properties", {}).items():
            if len(path) >= MAX_DEPTH or (not path and name in ABOUT_FILE):
                continue
            inner = list(_walk(schema, below, (*path, name)))
            yield from inner or [(".".join((*path, name)), below)]


def _alternatives(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a part of a schema may be, references followed."""
    reference = node.get("$ref")
    if isinstance(reference, str):
        yield from _alternatives(schema, schema["$defs"][reference.rpartition("/")[2]])
        return
    if "properties" in node or not (node.get("anyOf") or node.get("oneOf")):
        yield node
        return
    for one in [*node.get("anyOf", ()), *node.get("oneOf", ())]:
        yield from _alternatives(schema, one)


def _values(schema: Mapping[str, Any], key: str) -> Iterator[str]:
    for name, node in _walk(schema, schema):
        for part in _alternatives(schema, node) if name == key else ():
            found = [*part.get("enum", ()), *([part["const"]] if "const" in part else ())]
            yield from map(str, found)
            if part.get("type") == "boolean":
                yield from ("true", "false")

"""From files and arguments to one tree of values, each of which knows where it was written.

A config is a YAML 1.2 file. It may name another file it builds on with the top-level key ``base`` (relative
to itself): sections are merged key by key, the nearer file wins, lists are replaced, and a section with
another ``implementation`` than its base starts anew. Arguments ``key.sub=value`` come last; their values are
YAML and replace what was there.

One file can hold an experiment in several sizes: the section ``scales`` says, by name, what another size
changes. ``scale=paper`` lays that section over the rest, merged like a file over its base, and adds
``_paper`` to the name; without it, or with ``scale=small``, the config is what it is.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from nanollama.config.arguments import noted, split_arguments
from nanollama.config.paths import expand_path
from nanollama.errors import ConfigError
from nanollama.wording import shorten, show, suggest

Keys = tuple[str | int, ...]

BASE_KEY = "base"
SCALE_KEY, SCALES_KEY = "scale", "scales"
AS_WRITTEN = "small"
DISCRIMINATOR = "implementation"
MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 32

_TAG = "tag:yaml.org,2002:"
_quote = cache(json.dumps)
"""A key as JSON."""
_IN_GRID = re.compile(r"(grid\.product|grid\.arms\.[^.]+)\.(?!starts_from(?:\.|$))(.+)")
"""A section of a grid, and a key of its runs, which is one key there however many dots it has."""


@dataclass(frozen=True)
class Place:
    """Where a value was written: a line of a file (counted from 1; 0: the whole file) or an argument."""

    file: str = ""
    line: int = 0
    argument: str = ""

    def __str__(self) -> str:
        if self.argument:
            return f"command line: {shorten(self.argument)}"
        return f"{self.file}:{self.line}" if self.line else self.file

    def of(self, key: str) -> str:
        """How a message about a dotted key begins: the place and, unless the place says it, the key."""
        return str(self) if key in ("", self.argument.partition("=")[0]) else f"{self}: {key}"


@dataclass(frozen=True)
class Node:
    """A value and its place. Mappings hold nodes by key, lists hold nodes."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    @cached_property
    def as_json(self) -> str:
        """The value as JSON. Runs of a grid share most of their sections, which are written once."""
        if isinstance(self.value, dict):
            return "{" + ",".join([f"{_quote(key)}:{node.as_json}" for key, node in self.value.items()]) + "}"
        if isinstance(self.value, list):
            return "[" + ",".join([node.as_json for node in self.value]) + "]"
        return json.dumps(self.value)

    def place_of(self, keys: Keys) -> Place:
        """The place of a key, or of the nearest section around it that was written."""
        node = self
        for key in keys:
            child = _child(node, key)
            if child is None:
                break
            node = child
        return node.place


def read_source(argv: Sequence[str], problems: list[str] | None = None) -> Node:
    """The tree of ``[config=]PATH [key.sub=value ...]``.

    Args:
        argv: the arguments.
        problems: gets a line an argument that is wrong, which is passed over; None: the first raises.

    Raises:
        ConfigError: no path, a file that cannot be read or parsed, an argument that is not ``key=value``.
    """
    path, overrides = split_arguments(argv, problems)
    root = _read_file(os.path.expanduser(path))
    scales = [argument for argument in overrides if argument.startswith(f"{SCALE_KEY}=")]
    for argument in scales[-1:]:
        root = _override(root, argument)
    root = _choose_scale(root)
    for argument in overrides:
        if argument not in scales:
            with noted(problems):
                root = _override(root, argument)
    return root


def set_node(root: Node, key: str, node: Node) -> Node:
    """The tree with another node at a dotted key; sections on the way are made.

    Raises:
        ConfigError: the key leads through a value that has no keys, or past the end of a list.
    """
    return _replace(root, key.split("."), 0, node)


def _read_file(path: str, chain: tuple[str, ...] = (), named_at: str = "") -> Node:
    """The tree of a file merged over its bases.

    Args:
        path: the file.
        chain: the files that build on this one.
        named_at: where the file is named as a base, for messages; nothing for the first of the chain.
    """
    root = parse_yaml(_read_text(path, named_at), Place(file=path))
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else f"the single value {show(root.value)}"
        raise ConfigError(f"{path}: expected keys and values (`key: value`) at the top, got {kind}.")
    root = Node(dict(root.value), root.place)  # that of `parse_yaml` belongs to all who ask
    base = root.value.pop(BASE_KEY, None)
    if base is None:
        return root
    where = f"{base.place}: {BASE_KEY}: "
    if not isinstance(base.value, str):
        raise ConfigError(f"{where}expected the path of one file, got {show(base.plain())}.")
    try:
        base_path = os.path.normpath(os.path.join(os.path.dirname(path), expand_path(base.value)))
    except ValueError as error:
        raise ConfigError(f"{where}{error}.") from None
    chain = (*chain, os.path.realpath(path))
    if os.path.realpath(base_path) in chain:
        raise ConfigError(f"{where}'{base.value}' leads back to a file that builds on it.")
    return _merge(_read_file(base_path, chain, where), root)


def _read_text(path: str, named_at: str) -> str:
    where = f"{named_at}{path}"
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such file{_neighbours(path)}") from None
    except IsADirectoryError:
        if os.path.isfile(config := os.path.join(path, "config.yaml")):
            raise ConfigError(
                f"{where}: is the folder of a run, expected a YAML file: to go on with it, name {config}, "
                f"and run_dir={path} where it was moved; to examine it, a config of `eval` and run={path}."
            ) from None
        raise ConfigError(f"{where}: is a folder, expected a YAML file{_neighbours(f'{path}/')}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{where}: is larger than 1 MiB; expected a YAML file with keys and values.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        raise ConfigError(f"{where}: is not UTF-8 text ({found}); expected a YAML file.") from None
    if not text.strip():
        raise ConfigError(f"{where}: is empty; expected keys and values (`key: value`).")
    return text


def _neighbours(path: str) -> str:
    """End of a message about a missing file: a config of a study with its name, or what is near."""
    folder = Path(path).parent if not path.endswith("/") else Path(path)
    if shipped := sorted(Path().glob(f"apps/*/config/{glob.escape(Path(path).stem)}.yaml")):
        return f"; did you mean {' or '.join(map(repr, map(str, shipped)))}?"
    if not folder.is_dir():
        return f"; the folder '{folder}' does not exist."
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml"))
    except OSError:
        return "."
    nearest = suggest(os.path.basename(path), names)
    if nearest:
        return nearest.replace("'", f"'{os.path.join(os.path.dirname(path), '')}", 1)
    return f" (configs there: {', '.join(names[:10])})." if names else "; its folder holds no YAML file."


@lru_cache(maxsize=256)
def parse_yaml(text: str, place: Place) -> Node:
    """The tree of a YAML text; in a file, each value's place is the line of its key.

    Each is parsed once: a book or a grid reads the same files many times. So nobody may change the tree.

    Raises:
        ConfigError: the text is not YAML, is empty, or uses more of YAML than configs need.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        if root is None:
            raise ConfigError(f"{place}: is empty; expected a value.")
        return _TreeBuilder(yaml, place).node(root, place)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = str(place)
        if place.file and mark is not None:
            where = f"{place.file}:{mark.line + 1}:{mark.column + 1}"
        problem = (error.problem or error.context or "").removeprefix("but ")
        raise ConfigError(f"{where}: is not valid YAML: {problem}.") from None
    except (YAMLError, ValueError, OverflowError) as error:  # "\\U00110000" is no letter
        raise ConfigError(f"{place}: is not valid YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise ConfigError(f"{place}: is nested too deeply to be a config.") from None


class _TreeBuilder:
    """Turns the nodes of ruamel.yaml into ours; refuses what surprises: duplicate keys, aliases, tags."""

    def __init__(self, yaml: YAML, place: Place) -> None:
        self._constructor = yaml.constructor
        self._place = place
        self._seen: set[int] = set()

    def node(self, source: MappingNode | SequenceNode | ScalarNode, place: Place, depth: int = 0) -> Node:
        """Our node of a node of ruamel.yaml."""
        if depth > MAX_DEPTH:
            raise ConfigError(f"{place}: is nested more than {MAX_DEPTH} levels deep.")
        if id(source) in self._seen:
            raise ConfigError(f"{place}: YAML aliases (*name) are not supported; write the value out.")
        self._seen.add(id(source))
        if isinstance(source, MappingNode):
            return Node(self._mapping(source, depth), place)
        if isinstance(source, SequenceNode):
            return Node([self.node(item, self._at(item), depth + 1) for item in source.value], place)
        return Node(self._scalar(source, place), place)

    def _at(self, source: MappingNode | SequenceNode | ScalarNode) -> Place:
        return Place(self._place.file, source.start_mark.line + 1) if self._place.file else self._place

    def _mapping(self, source: MappingNode, depth: int) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        for key, value in source.value:
            place = self._at(key)
            if not isinstance(key, ScalarNode):
                raise ConfigError(f"{place}: expected a name as the key, got a list or a mapping.")
            name = str(key.value)
            if str(key.tag) == f"{_TAG}merge":
                raise ConfigError(f"{place}: YAML merge keys (<<) are not supported; use `base: FILE`.")
            if name in nodes:
                first = f" (first in line {nodes[name].place.line})" if place.line else ""
                raise ConfigError(f"{place}: {name}: duplicate key{first}; keep one of them.")
            nodes[name] = self.node(value, place, depth + 1)
        return nodes

    def _scalar(self, source: ScalarNode, place: Place) -> Any:
        kind = str(source.tag).removeprefix(_TAG)
        if kind == "timestamp":  # a type of YAML 1.1; in a config a date is a text
            return str(source.value)
        if kind not in ("null", "bool", "int", "float", "str"):
            raise ConfigError(
                f"{place}: the YAML tag '{source.tag}' is not supported; expected a plain value."
            )
        try:
            value = self._constructor.construct_object(source)
            str(value).encode()  # refuses halves of surrogate pairs and integers of thousands of digits
            return value
        except (ValueError, LookupError):  # the latter: of what a tag such as !!bool promises, and is not
            raise ConfigError(f"{place}: the value {show(str(source.value))} cannot be read.") from None


def _merge(far: Node, near: Node) -> Node:
    """The nearer tree laid over the farther one."""
    if not isinstance(far.value, dict) or not isinstance(near.value, dict):
        return near
    stated, replaced = near.value.get(DISCRIMINATOR), far.value.get(DISCRIMINATOR)
    if stated is not None and replaced is not None and stated.value != replaced.value:
        return near
    merged = dict(far.value)
    for key, node in near.value.items():
        merged[key] = _merge(merged[key], node) if key in merged else node
    return Node(merged, near.place)


def _choose_scale(root: Node) -> Node:
    """The tree at the size that ``scale`` names, without the keys ``scale`` and ``scales``."""
    chosen, scales = root.value.pop(SCALE_KEY, None), root.value.pop(SCALES_KEY, None)
    if scales is not None and not isinstance(scales.value, dict):
        raise ConfigError(
            f"{scales.place}: {SCALES_KEY}: expected a section a size, got {show(scales.plain())}."
        )
    if chosen is None:
        return root
    if scales is None:
        raise ConfigError(
            f"{chosen.place.of(SCALE_KEY)}: the config has no section `{SCALES_KEY}`: it has one size."
        )
    if chosen.value == AS_WRITTEN:
        return root
    if not isinstance(chosen.value, str) or chosen.value not in scales.value:
        names = [AS_WRITTEN, *scales.value]
        hint = suggest(str(chosen.plain()), names) or "."
        raise ConfigError(
            f"{chosen.place.of(SCALE_KEY)}: expected one of {', '.join(map(repr, names))}, "
            f"got {show(chosen.plain())}{hint}"
        )
    changes = scales.value[chosen.value]
    if not isinstance(changes.value, dict):
        raise ConfigError(
            f"{changes.place}: {SCALES_KEY}.{chosen.value}: expected a section, got {show(changes.plain())}."
        )
    name = root.value.get("name")
    if name is not None:
        root.value["name"] = Node(f"{name.value}_{chosen.value}", name.place)
    return _merge(root, changes)


def _override(root: Node, argument: str) -> Node:
    """The tree with one ``key.sub=value`` applied."""
    place = Place(argument=argument)
    key, equals, text = argument.partition("=")
    if not equals or not all(part.strip() == part and part for part in key.split(".")):
        is_key = not equals and re.fullmatch(r"\w+(\.\w+)+", key)
        example = f"{key}=VALUE" if is_key else "model.d_model=32"
        raise ConfigError(f"{place}: expected `key=value` with a dotted key, such as `{example}`.")
    if not text.strip():
        raise ConfigError(f"{place}: has no value; write `{key}=null` if nothing is meant.")
    in_grid = _IN_GRID.fullmatch(key)
    parts = [*in_grid[1].split("."), in_grid[2]] if in_grid else key.split(".")
    return _replace(root, parts, 0, parse_yaml(text, place))


def _replace(node: Node, parts: list[str], depth: int, new: Node) -> Node:
    """``node`` with what stands at ``parts[depth:]`` replaced; sections on the way are made."""
    if depth == len(parts):
        return new
    part, path = parts[depth], ".".join(parts[:depth])
    if isinstance(node.value, list):
        if not part.isdecimal() or int(part) >= len(node.value):
            n_items = len(node.value)
            allowed = f"an index from 0 to {n_items - 1}" if n_items else "no index: the list is empty"
            raise ConfigError(f"{new.place}: '{path}' is a list; expected {allowed}, got '{part}'.")
        items = list(node.value)
        items[int(part)] = _replace(items[int(part)], parts, depth + 1, new)
        return Node(items, node.place)
    if not isinstance(node.value, dict | None):
        raise ConfigError(
            f"{new.place}: '{path}' is {show(node.value)} ({node.place}), not a section with a key '{part}'."
        )
    children = dict(node.value or {})
    children[part] = _replace(children.get(part, Node(None, new.place)), parts, depth + 1, new)
    return Node(children, node.place)


def _child(node: Node, key: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(key))
    if isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
        item = node.value[key]
        assert isinstance(item, Node)
        return item
    return None

"""What a config class expects: its keys, their types in words, and the nearest of them to a wrong one."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nanollama.config.source import DISCRIMINATOR, Keys
from nanollama.wording import show

_NOUNS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    Path: "a path",
    type(None): "null",
    None: "null",
    Any: "any value",
}


@dataclass(frozen=True)
class KeyInfo:
    """One key of a config class, as help and schema show it."""

    key: str
    """Dotted, with ``*`` for the entries of a list or mapping."""
    expected: str
    default: str | None
    """As YAML would write it; None when the key is required."""
    description: str
    variant: str
    """The implementation the key belongs to, or nothing."""


def describe_keys(config_class: type[BaseModel]) -> list[KeyInfo]:
    """All keys of a config class, sections before their keys, in the order of the class."""
    return list(_walk(config_class, "", ""))


def describe_type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a value must be, in words: ``an integer >= 1``, ``one of 'a', 'b'``."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        nested = [
            part for item in extra for part in (item.metadata if isinstance(item, FieldInfo) else [item])
        ]
        return describe_type(inner, [*nested, *metadata])
    if _is_union(annotation):
        return " or ".join(_describe_members(annotation, metadata))
    return _noun(annotation, _limits(annotation, metadata))


def locate(config_class: type[BaseModel], loc: Keys) -> tuple[Keys, Any, Sequence[Any]]:
    """The keys a user would write for pydantic's ``loc``, and annotation and metadata of what stands there.

    Pydantic also names the members of unions and, as ``[key]``, keys of mappings; users write neither. The
    annotation for an unknown key is that of the section it stands in.
    """
    keys: list[str | int] = []
    around: Any = None
    annotation: Any = config_class
    metadata: Sequence[Any] = ()
    for part in loc:
        member, child = _member(annotation, part), _child_type(annotation, part)
        if member is not None:
            annotation = member
        elif child is not None:
            keys.append(part)
            around = annotation
            annotation, metadata = child
        elif part == "[key]":
            annotation, metadata = get_args(_strip(around))[0], ()
        elif section_class(annotation) is not None:
            keys.append(part)
    return tuple(keys), annotation, metadata


def choices(annotation: Any) -> list[str]:
    """The texts a value may be, where the type lists them."""
    annotation = _strip(annotation)
    if _is_union(annotation):
        return [text for member in get_args(annotation) for text in choices(member)]
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [str(member.value) for member in annotation]
    return []


def section_classes(annotation: Any) -> list[type[BaseModel]]:
    """The config classes a section, or the entries of a list or mapping, may have."""
    annotation = _strip(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if _is_union(annotation) or _is_container(annotation):
        return [section for member in get_args(annotation) for section in section_classes(member)]
    return []


def section_class(annotation: Any) -> type[BaseModel] | None:
    """The config class of a section, also one that may be null; None for values and unions of sections."""
    classes = section_classes(annotation)
    return classes[0] if len(classes) == 1 else None


def implementation_of(config_class: type[BaseModel]) -> str:
    """The name that tells a class from the others of its union, or nothing; of several, the default one."""
    field = config_class.model_fields.get(DISCRIMINATOR)
    if field is None:
        return ""
    names = choices(field.annotation)
    return names[0] if len(names) == 1 else field.default if isinstance(field.default, str) else ""


def keys_of(config_class: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a section by name, also those that parts from outside the library bring into it."""
    keys = dict(config_class.model_fields)
    for fields in _brought(config_class).values():
        keys |= fields
    return keys


def _brought(config_class: type[BaseModel]) -> dict[str, dict[str, FieldInfo]]:
    """Keys from outside, by the implementation that reads them: a section says so by ``brought_fields``."""
    brought_fields = getattr(config_class, "brought_fields", None)
    return brought_fields() if brought_fields else {}


def _walk(config_class: type[BaseModel], prefix: str, variant: str) -> Iterator[KeyInfo]:
    fields = [(variant, *item) for item in config_class.model_fields.items()]
    fields += [
        (owner, *item) for owner, brought in _brought(config_class).items() for item in brought.items()
    ]
    for owner, name, field in fields:
        key = prefix + name
        classes = section_classes(field.annotation)
        expected = describe_type(field.annotation, field.metadata)
        yield KeyInfo(key, expected, _default(field), field.description or "", owner)
        inner = f"{key}.{'*.' if _is_container(_strip(field.annotation)) else ''}"
        for section in classes:
            yield from _walk(section, inner, implementation_of(section) if len(classes) > 1 else owner)


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return implementation_of(type(value)) or "its keys' defaults"
    if isinstance(value, list | tuple) and value and isinstance(value[0], BaseModel):
        return f"{len(value)} entries"
    return show(value)


def _describe_members(annotation: Any, metadata: Sequence[Any]) -> list[str]:
    members = get_args(annotation)
    sections, literals = section_classes(annotation), choices(annotation)
    parts = []
    if len(sections) > 1:
        parts.append(
            f"a section with `implementation` {' or '.join(repr(implementation_of(c)) for c in sections)}"
        )
    if literals:
        parts.append(_one_of(literals))
    for member in members:
        if not choices(member) and not (len(sections) > 1 and section_classes(member)):
            parts.append(describe_type(member, () if member is type(None) else metadata))
    return parts


def _one_of(values: Sequence[Any]) -> str:
    texts = [show(value) for value in values]
    return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"


def _noun(annotation: Any, limits: str) -> str:
    if get_origin(annotation) is Literal or choices(annotation):
        return _one_of(get_args(annotation) or choices(annotation))
    if _is_container(annotation):
        kind = "a mapping" if _is_mapping(annotation) else "a list"
        items = [item for item in get_args(annotation) if item is not Ellipsis]
        return f"{kind}{limits}" + (f", each {describe_type(items[-1])}" if items else "")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    return (_NOUNS.get(annotation) or str(getattr(annotation, "__name__", annotation))) + limits


def _limits(annotation: Any, metadata: Sequence[Any]) -> str:
    """`` >= 1 and < 5``, `` with at least 1 entry``; pydantic and annotated_types name the limits alike."""
    wordings = {
        "ge": ">= {}",
        "gt": "> {}",
        "le": "<= {}",
        "lt": "< {}",
        "multiple_of": "divisible by {}",
        "min_length": "with at least {} {items}",
        "max_length": "with at most {} {items}",
        "pattern": "matching `{}`",
    }
    limits = [
        wording.format(value, items=_items(annotation, value))
        for item in metadata
        for name, wording in wordings.items()
        if (value := getattr(item, name, None)) is not None
    ]
    return f" {' and '.join(limits)}" if limits else ""


def _items(annotation: Any, n_items: Any) -> str:
    one, many = ("entry", "entries") if _is_container(annotation) else ("character", "characters")
    return one if n_items == 1 else many


def _strip(annotation: Any) -> Any:
    """The annotation without its Annotated and without `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if _is_union(annotation):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _strip(members[0]) if len(members) == 1 else annotation
    return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_container(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    containers = (Mapping, Sequence, set, frozenset)
    return isinstance(kind, type) and kind not in (str, bytes) and issubclass(kind, containers)


def _is_mapping(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _member(annotation: Any, part: str | int) -> Any:
    """The member of a union of sections that pydantic's ``part`` names."""
    annotation = _strip(annotation)
    if not _is_union(annotation):
        return None
    for section in section_classes(annotation):
        if part in (implementation_of(section), section.__name__):
            return section
    return None


def _child_type(annotation: Any, part: str | int) -> tuple[Any, Sequence[Any]] | None:
    """Annotation and metadata of what stands at a key or index of a section, mapping or list."""
    annotation = _strip(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = keys_of(annotation).get(str(part))
        return (field.annotation, field.metadata) if field else None
    items = [item for item in get_args(annotation) if item is not Ellipsis]
    if _is_mapping(annotation) and len(items) == 2:
        return items[1], ()
    if _is_container(annotation) and isinstance(part, int) and items:
        return items[min(part, len(items) - 1)], ()
    return None

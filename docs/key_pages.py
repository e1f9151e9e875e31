"""Pages of config keys, one a study, written from the classes that check the configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nanollama.config.keys import KeyInfo, describe_keys
from nanollama.monitor.files import write_atomically
from nanollama.studies import Study, find_study, list_studies

COLUMNS = ("key", "expected", "default", "what it says")


def write_pages(folder: Path) -> list[Path]:
    """Write the page of each study of the checkout; those of studies that are gone are removed."""
    pages = {folder / f"{name}.md": page_of(find_study(name)) for name in list_studies()}
    folder.mkdir(exist_ok=True)
    for path in set(folder.glob("*.md")) - pages.keys():
        path.unlink()
    for path, text in pages.items():
        write_if_changed(path, text)
    return list(pages)


def write_if_changed(path: Path, text: str) -> None:
    """Write a page; one that is as it was is left alone, or it would be built anew."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)


def page_of(study: Study) -> str:
    """All keys of all kinds of config of a study, as Markdown."""
    lines = [
        f"# Keys of {study.name}",
        "",
        "Written from the classes that check the configs. `*` stands for each entry of a list. A key without "
        "a default is required. The word behind a key is the implementation that it belongs to.",
    ]
    for kind, config_class in study.configs.items():
        about = (config_class.__doc__ or "").splitlines()[0]
        lines += ["", f"## `{study.name}`: {kind}", "", about]
        for section, keys in sections_of(describe_keys(config_class)):
            lines += ["", f"### {section}", "", *table(keys)]
    return "\n".join(lines) + "\n"


def sections_of(keys: list[KeyInfo]) -> Iterator[tuple[str, list[KeyInfo]]]:
    """Keys by their first word; those that have no keys below them stand together, first."""
    sections: dict[str, list[KeyInfo]] = {}
    for key in keys:
        sections.setdefault(key.key.split(".")[0], []).append(key)
    yield "At the top", [found[0] for found in sections.values() if len(found) == 1]
    yield from ((f"`{name}`", found) for name, found in sections.items() if len(found) > 1)


def table(keys: list[KeyInfo]) -> list[str]:
    """A Markdown table, a row a key."""
    rows = [
        (
            f"`{key.key}`" + (f" ({key.variant})" if key.variant else ""),
            escape(key.expected),
            "" if key.default is None else escape(f"`{key.default}`"),
            escape(key.description),
        )
        for key in keys
    ]
    return [f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS), *rows)]


def escape(text: str) -> str:
    """Text in which nothing but code means anything to Markdown."""
    parts = text.split("`")
    for index, part in enumerate(parts):
        special = "|" if index % 2 else "\\|*_<>[]$"  # a bar ends a cell, in code too
        parts[index] = "".join(f"\\{letter}" if letter in special else letter for letter in part)
    return "`".join(parts)

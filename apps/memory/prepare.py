"""What the runs of a grid share, made before the first of them starts: dialogs, biographies, text, database.

Alone, a run makes what it misses, or makes it longer; here it is made once, and for the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from apps.memory.dataset.dialogs import DialogKind, Language
from apps.memory.dataset.generate import ensure_biographies, ensure_dialogs
from apps.memory.dataset.sql_db import ensure_database
from apps.memory.settings import MemoryConfig
from apps.memory.sources import read_text
from nanollama.config import Config


class Texts(NamedTuple):
    """A file of texts that runs read; no kind: biographies."""

    root: Path
    kind: DialogKind | None
    language: Language


def prepare(configs: Sequence[Config]) -> None:
    """Make the files that runs of these configs read, each with as many people as the largest needs.

    Raises:
        UserError: a file cannot be written, or holds something else.
    """
    needs: dict[Texts, int] = {}
    databases: set[Path] = set()
    read: set[tuple[str | None, str]] = set()
    for config in configs:
        if not isinstance(config, MemoryConfig):
            continue
        if (
            config.text is not None
            and (key := (config.pretrained, config.text.model_dump_json())) not in read
        ):
            read_text(config)
            read.add(key)
        for source in config.data.sources:
            if source.kind == "sums" or source.kind == "sumstool" or config.data.dependence is not None:
                continue  # made in memory, from the config alone
            if source.kind == "text":
                continue  # made above
            kind = None if source.kind == "biographies" else source.kind
            texts = Texts(config.data_root, kind, config.data.language)
            needs[texts] = max(needs.get(texts, 0), config.data.n_people)
        if config.data.uses_tool and config.database.url is None and config.data.dependence is None:
            databases.add(config.data_root)
    for texts, n_people in needs.items():
        _ensure(texts, n_people)
    for root in sorted(databases):
        ensure_database(root)


def _ensure(texts: Texts, n_people: int) -> None:
    root, kind, language = texts
    if kind is None:
        ensure_biographies(root, n_people)
    else:
        ensure_dialogs(root, kind, language, "train", n_people)

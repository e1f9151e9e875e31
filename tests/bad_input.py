"""What a case of wrong input is, and the right config that the cases spoil.

Every case starts in an empty folder with ``good.yaml`` and the study's sources. In an answer, ``...`` stands
for words that are not ours (of the YAML parser or the system) or that vary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Content = str | bytes | Callable[[Path], None]

GOOD = """\
study: memory
name: good
data:
  n_people: 2
  sources:
    - kind: qa
model:
  implementation: transformer
  d_model: 8
  n_layers: 1
  n_heads: 2
training:
  n_steps: 2
  batch_size: 4
  device: cpu
recall:
  n_people: 2
"""


@dataclass(frozen=True)
class Case:
    """One wrong input.

    Args:
        name: of the test.
        typed: the command, short: ``train`` is ``python -m apps.memory.train``.
        said: the lines it must say.
        files: what is there besides ``good.yaml``, by name: a content, or how to make it.
    """

    name: str
    typed: str
    said: str
    files: Mapping[str, Content] = field(default_factory=dict)


def good(**changed: str) -> str:
    """The right config with other values, ``d_model="7"``."""
    lines = GOOD.splitlines()
    for key, value in changed.items():
        number = next(index for index, line in enumerate(lines) if line.strip().startswith(f"{key}:"))
        lines[number] = f"{lines[number].partition(':')[0]}: {value}"
    return "".join(f"{line}\n" for line in lines)

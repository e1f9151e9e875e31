"""The explorer as one HTML file: numbers that were computed beforehand, and the one script that shows them.

The page's policy names that script and its style by their hashes, so that the browser runs nothing else,
whatever a model, a config or a file name has written; and it loads nothing. Numbers and texts lie in a block
of JSON without a single ``<``, which the script makes text of and never HTML.

Weights, influences and probabilities are bytes: 255 times the number, rounded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from nanollama.report.attention.exhibits import Exhibits, Pattern, Shown
from nanollama.report.attention.extent import Extent
from nanollama.report.attention.looks import Answers, View
from nanollama.wording import printable

LEVELS = 255
MAX_LABELS, OTHER = 20_000, "(another)"
"""Different tokens that a page tells by name; of a large vocabulary, a model may answer with more."""
MODULES = (("report", "elements.js"), ("report.attention", "maps.js"), ("report.attention", "explorer.js"))
"""Of the script, in the order in which they need each other."""
STYLES = (("report", "page.css"), ("report.attention", "explorer.css"))


@dataclass(frozen=True)
class Look:
    """What a checkpoint has shown.

    Args:
        step: its optimizer steps.
        maps: (views, T, T) of each sequence.
        scores: (views, P) of each head on each pattern.
        answers: to each sequence, as it is and then with each change.
    """

    step: int
    maps: Sequence[Tensor]
    scores: Tensor
    answers: Sequence[Sequence[Answers]]


class Vocabulary:
    """Tokens by numbers of the page's own, in the order in which they occur."""

    def __init__(self, spell: Callable[[int], str]) -> None:
        self._spell = spell
        self._numbers: dict[int, int] = {}

    def number(self, token: int) -> int:
        """The number of a token."""
        if token not in self._numbers and len(self._numbers) < MAX_LABELS:
            self._numbers[token] = len(self._numbers)
        return self._numbers.get(token, MAX_LABELS)

    @property
    def labels(self) -> list[str]:
        """What the tokens are written like, by number."""
        labels = [printable(self._spell(token)) for token in self._numbers]
        return [*labels, OTHER] if len(labels) == MAX_LABELS else labels


def page_data(
    exhibits: Exhibits,
    extent: Extent,
    views: Sequence[View],
    patterns: Sequence[Pattern],
    looks: Sequence[Look],
    causal: bool,
) -> dict[str, Any]:
    """All that the script shows, as JSON knows it."""
    vocabulary = Vocabulary(exhibits.spell)
    sequences = [_sequence(shown, vocabulary) for shown in extent.sequences]
    checkpoints = [
        {
            "step": look.step,
            "maps": [pack_maps(maps, causal) for maps in look.maps],
            "scores": [
                [None if value != value else round(value, 4) for value in row] for row in look.scores.tolist()
            ],
            "answers": [
                [pack_answers(answers, vocabulary, 1 if number else None) for answers in of_change]
                for number, of_change in enumerate(look.answers)
            ],
        }
        for look in looks
    ]
    numbers = {view: number for number, view in enumerate(views)}
    return {
        "causal": causal,
        "inPlace": exhibits.in_place,
        "where": exhibits.where,
        "marks": list(exhibits.marks.items()),
        "views": [[view.kind, view.layer, view.head] for view in views],
        "patterns": [_pattern(pattern, causal) for pattern in patterns],
        "changes": [
            [numbers[change.view], None if change.pattern is None else patterns.index(change.pattern)]
            for change in extent.changes
        ],
        "sequences": sequences,
        "checkpoints": checkpoints,
        "labels": vocabulary.labels,
    }


def pack_maps(maps: Tensor, causal: bool) -> str:
    """Maps (views, T, T) row by row, those of causal models up to the diagonal: bytes as base64."""
    quantised = quantise(maps)
    if causal:
        n_tokens = maps.shape[-1]
        rows, columns = torch.tril_indices(n_tokens, n_tokens)
        quantised = quantised[:, rows, columns]
    return _base64(quantised)


def pack_answers(answers: Answers, vocabulary: Vocabulary, n_told: int | None = None) -> str:
    """Answers, one after the other, as bytes in base64.

    Of each told token two bytes of its number, low first, and its probability; then that of the right one.
    """
    tokens, probabilities = answers.tokens[:, :n_told], quantise(answers.probabilities[:, :n_told])
    numbers = torch.tensor([[vocabulary.number(token) for token in row] for row in tokens.tolist()])
    numbers = numbers.reshape(tokens.shape)
    told = torch.stack([numbers % 256, numbers // 256, probabilities.long()], dim=-1).flatten(1)
    return _base64(torch.cat([told, quantise(answers.of_right).long()[:, None]], dim=1).to(torch.uint8))


def quantise(shares: Tensor) -> Tensor:
    """Numbers between 0 and 1 as bytes."""
    return (shares.double() * LEVELS).round().clamp(0, LEVELS).to(torch.uint8)


def render_explorer(
    title: str, lead: str, left_out: Sequence[str], footer: str, data: Mapping[str, Any]
) -> str:
    """The page as HTML.

    Args:
        title: of the page.
        lead: a sentence or two below it.
        left_out: sentences on what the page does not have.
        footer: where it comes from.
        data: see `page_data`.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_read("report.attention", "explorer.html"))
    script, style = script_of(), "\n".join(_read(*place) for place in STYLES)
    return template.render(
        title=printable(title),
        lead=printable(lead),
        left_out=left_out,
        footer=footer,
        policy=policy_of(script, style),
        script=Markup(script),
        style=Markup(style),
        data=Markup(inert(data)),
    )


def script_of() -> str:
    """The modules of the script as one: what one of them exports, those behind it use."""
    lines = [line for place in MODULES for line in _read(*place).splitlines()]
    joined = "\n".join(line.removeprefix("export ") for line in lines if not line.startswith("import "))
    return f'"use strict";\n{joined}\n'


def policy_of(script: str, style: str) -> str:
    """What the browser may do: run this script, take this style, and nothing else."""
    hashes = [base64.b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def inert(data: Mapping[str, Any]) -> str:
    """JSON in which nothing can end the element that it lies in, or begin another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _sequence(shown: Shown, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "title": printable(shown.title),
        "tokens": [vocabulary.number(token) for token in shown.tokens],
        "asked": list(shown.answers),
        "right": [vocabulary.number(token) for token in shown.answers.values()],
    }


def _pattern(pattern: Pattern, causal: bool) -> dict[str, Any]:
    mask = pattern.mask(torch.tensor(pattern.example))
    mask = mask.tril() if causal else mask
    drawn = {"labels": list(pattern.labels), "cells": mask.nonzero().tolist()}
    return {"name": pattern.name, "words": pattern.words, **drawn}


def _base64(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()


def _read(package: str, name: str) -> str:
    return (resources.files(f"nanollama.{package}") / name).read_text(encoding="utf-8")

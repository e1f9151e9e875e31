"""The page of the in-tool model built by hand: what each head looks at, in one dialog, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from apps.memory.dataset.dialogs import make_dialog
from apps.memory.dataset.people import Person
from apps.memory.sources import build_tokenizer
from nanollama.model.probe import recorded_maps
from nanollama.model.protocol import LanguageModel
from nanollama.report.command import save_parts, write_page
from nanollama.report.page import Block, Dialogs, Picture, Section, Words
from nanollama.report.runs import SampleDialog
from nanollama.report.style import COLOURS, figure_style
from nanollama.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, PICTURES = "circuit.html", "circuit"
SHOWN_ABOVE = 0.01  # attention
MIN_PART_TOKENS = 3
SIZE_INCHES = (7.2, 6.6)
EXAMPLE = Person(0, "Anna Nana", "Nan Anan", "Nan Anan", "Nan Anan", "Nan Anan")

EXPLANATIONS = {
    (0, 0): (
        "the telling letter",
        "Every token reads the one letter of the question that is another one for each attribute. Before "
        "there is such a letter the head looks about, and nothing depends on it.",
    ),
    (0, 1): (
        "the first assistant",
        "Every token fetches the position of the first <assistant>, where the question ends. Less the "
        "words of the question, which the attribute tells, this is the length of the name.",
    ),
    (0, 2): (
        "the last assistant",
        "Every token fetches the position of the last <assistant>, where its turn began; the difference "
        "to its own position says how many tokens of the turn are written.",
    ),
    (0, 3): (
        "the reply",
        "Every token looks for <database>, whose position it fetches; until there is one it rests on <user>. "
        "The answer is told from the request by what this head finds.",
    ),
    (2, 0): (
        "the name",
        "The pointer, tokens written less the words before the name, runs along the name while it is "
        "copied, letter by letter, in the request and once more in the answer. Elsewhere it runs on over "
        "other tokens; what it brings from there is overruled by fixed words or the value.",
    ),
    (2, 1): (
        "the value",
        "This pointer counts from <database>, and runs along the reply while the value is due. Where it "
        "names no token behind <database> the head rests on <user>, and brings nothing. It ends on "
        "<assistant>, which calls for the full stop.",
    ),
    (2, 2): (
        "the end of the value",
        "One step behind the head of the value: it comes to <assistant> when the full stop is written, "
        "and calls for <end>.",
    ),
}


def write_circuit_page(
    folder: Path, model: LanguageModel, results: Table, samples: Sequence[SampleDialog]
) -> Path:
    """Write the page and its pictures into a folder; returns the page's path.

    Raises:
        UserError: the folder cannot be written to.
        MissingExtraError: matplotlib is not installed.
    """
    pictures = head_pictures(model)
    looks = Words(
        "One dialog, repeated letters in its name and value. A dot is attention of more than "
        f"{SHOWN_ABOVE:g} of the token in its row to the token in its column; nearly all are attention of 1. "
        "Layer 1 has heads that collect nothing: only its MLP works."
    )
    blocks: list[Block] = [looks]
    for picture in pictures:
        blocks += [picture, Words(EXPLANATIONS[_place(picture)][1])]
    sections = [
        Section("Result", (results,)),
        Section("What each head looks at", tuple(blocks)),
        Section("Dialogs", (Dialogs("circuit", tuple(samples)),)),
    ]
    lead = (
        f"{model.n_params():,} parameters, written down and not trained, answer questions about any number"
        " of people by asking the database."
    )
    write_page(folder / PAGE, "An in-tool model built by hand", lead, sections)
    save_parts(folder / PICTURES, sections)
    return folder / PAGE


def head_pictures(model: LanguageModel) -> tuple[Picture, ...]:
    """The attention map of each head that does something, on one dialog."""
    tokenizer = build_tokenizer()
    messages = make_dialog(EXAMPLE, "birth_place", "qatool").messages
    ids = tokenizer.encode_dialog(messages).ids[:-1]
    with torch.no_grad(), recorded_maps(model) as maps:
        model(torch.tensor(ids)[None])
    parts = dialog_parts([tokenizer.decode([token]) for token in ids.tolist()])
    return tuple(
        Picture(
            f"layer_{layer}_head_{head}",
            plot_dots(maps[layer][0, head], parts),
            f"Layer {layer}, head {head}: {name}.",
            f"Attention map of layer {layer}, head {head}, {name}: {text}",
        )
        for (layer, head), (name, text) in EXPLANATIONS.items()
    )


def dialog_parts(tokens: Sequence[str]) -> list[tuple[int, str]]:
    """Where the parts of the example begin, and what they are called."""
    text = "".join(token if len(token) == 1 else token[0] for token in tokens)
    name, value = EXAMPLE.name, EXAMPLE.birth_place
    parts = [(position, token) for position, token in enumerate(tokens) if len(token) > 1]
    start = text.find(name)
    while start >= 0:
        parts += [(start, "name"), (start + len(name), "words")]
        start = text.find(name, start + len(name))
    parts.append((text.rfind(value), "value"))
    joined: list[tuple[int, str]] = []
    for position, part in sorted(parts):
        if joined and position - joined[-1][0] < MIN_PART_TOKENS:  # side by side, labels would overlap
            joined[-1] = (joined[-1][0], f"{joined[-1][1]} {part}")
        else:
            joined.append((position, part))
    return joined


def plot_dots(attention: torch.Tensor, parts: Sequence[tuple[int, str]]) -> Figure:
    """An attention map (T, T) as dots: rows are queries from the top, columns are keys."""
    queries, keys = (attention > SHOWN_ABOVE).nonzero().T.tolist()
    sizes = [12 * float(attention[query, key]) for query, key in zip(queries, keys, strict=True)]
    places, names = [place for place, _ in parts], [name for _, name in parts]
    with figure_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=SIZE_INCHES)
        axes = figure.subplots()
        axes.scatter(keys, queries, s=sizes, color=COLOURS[0], linewidths=0)
        axes.set_xticks(places, names, rotation=90, fontsize=7)
        axes.set_yticks(places, names, fontsize=7)
        axes.set(xlabel="token that is looked at", ylabel="token that looks", xlim=(-2, len(attention) + 1))
        axes.set_ylim(len(attention) + 1, -2)
    return figure


def _place(picture: Picture) -> tuple[int, int]:
    _, layer, _, head = picture.name.split("_")
    return int(layer), int(head)

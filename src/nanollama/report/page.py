"""One HTML page in one file: no script, no network, no font but the reader's own.

Curves tell their values by titles and are hidden by boxes that CSS heeds.

Everything in it is escaped by the template: names, configs and above all what a model has written are not to
be trusted. As a second lock, the page's own policy forbids the browser to run or load anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

from nanollama.report.interactive import curves_of, to_page_svg
from nanollama.report.runs import SampleDialog
from nanollama.report.style import SIZE_INCHES
from nanollama.report.tables import Table
from nanollama.wording import printable

MAX_UNFOLDED = 12
"""Curves of a figure, or links, that are listed at once; more are folded."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    kind: Literal["words"] = "words"


@dataclass(frozen=True)
class Picture:
    """A figure with what it shows, in words, for those who do not see it.

    Args:
        name: of the files it is saved as.
        figure: drawn.
        caption: one sentence below it.
        alt: what it shows, with figures.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
    kind: Literal["picture"] = "picture"

    @property
    def wide_inches(self) -> float | None:
        """Its width where that is more than that of curves: in theirs, its words would be too small."""
        width = float(self.figure.get_figwidth())
        return width if width > SIZE_INCHES[0] else None


@dataclass(frozen=True)
class Film:
    """Pictures of one thing at several times, of which the reader chooses one.

    Args:
        title: of the choice.
        frames: a label and a picture each, in order; the last is shown first.
    """

    title: str
    frames: tuple[tuple[str, Picture], ...]
    kind: Literal["film"] = "film"


@dataclass(frozen=True)
class Dialogs:
    """Sample dialogs of one run."""

    name: str
    dialogs: tuple[SampleDialog, ...]
    kind: Literal["dialogs"] = "dialogs"


@dataclass(frozen=True)
class Listing:
    """A text to be unfolded, such as a config, as it stands in its file."""

    title: str
    text: str
    kind: Literal["listing"] = "listing"


@dataclass(frozen=True)
class Folded:
    """A table to be unfolded."""

    title: str
    table: Table
    kind: Literal["folded"] = "folded"


@dataclass(frozen=True)
class Links:
    """Files and folders beside the page, to be opened from it.

    Args:
        title: of the list.
        links: a name and a relative path each.
    """

    title: str
    links: tuple[tuple[str, str], ...]
    kind: Literal["links"] = "links"


Block = Words | Table | Picture | Film | Dialogs | Listing | Folded | Links


@dataclass(frozen=True)
class Section:
    """A part of a page under its own heading."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All pictures, those of films too."""
        pictures = []
        for block in self.blocks:
            if isinstance(block, Picture):
                pictures.append(block)
            elif isinstance(block, Film):
                pictures += [picture for _, picture in block.frames]
        return pictures

    @property
    def anchor(self) -> str:
        """What links to this section name."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def render_page(title: str, lead: str, sections: Sequence[Section], footer: str) -> str:
    """The page as HTML.

    Args:
        title: of the page.
        lead: a sentence or two below it: what was asked, what was found.
        sections: in order; those without blocks are left out.
        footer: where it comes from.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    files = resources.files("nanollama.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((files / "page.html").read_text(encoding="utf-8"))
    shown = [section for section in sections if section.blocks]
    pictures = [picture for section in shown for picture in section.pictures]
    # Drawn by matplotlib, which escapes the texts it is given.
    svgs = {
        id(picture): Markup(to_page_svg(picture.figure, f"f{number}"))
        for number, picture in enumerate(pictures)
    }
    return template.render(
        title=title,
        lead=lead,
        sections=shown,
        footer=footer,
        css=Markup((files / "page.css").read_text(encoding="utf-8")),
        printable=printable,
        svg_of=lambda picture: svgs[id(picture)],
        curves_of=lambda picture: curves_of(picture.figure),
        n_curves=max((len(curves_of(picture.figure)) for picture in pictures), default=0),
        max_unfolded=MAX_UNFOLDED,
    )

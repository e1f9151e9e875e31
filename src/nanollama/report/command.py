"""The command ``nanollama report``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import nanollama
from nanollama.entrypoint import Parser
from nanollama.errors import UserError
from nanollama.monitor.files import write_atomically, write_csv
from nanollama.monitor.successor import CONFIG
from nanollama.report import OUTPUT, default_output
from nanollama.report.page import Folded, Picture, Section, render_page
from nanollama.report.runs import read_runs
from nanollama.report.sections import report_sections
from nanollama.report.style import save_figure
from nanollama.report.tables import Table

FORMATS = (".svg", ".pdf", ".png")
MAX_NAME = 100
"""Letters of a name of files."""
_PROGRAM = "nanollama report"


def run(argv: Sequence[str]) -> None:
    """Write the page of some runs, and say where it is.

    Raises:
        UserError: wrong arguments, a folder that is not a run, or a place that cannot be written to.
        MissingExtraError: matplotlib is not installed.
    """
    arguments = _parse(argv)
    if len(arguments.runs) == 1 and (page := page_of_grid(arguments.runs[0])) is not None:
        print(f"{arguments.runs[0]} is a grid, and has its page: {page}")
        return
    runs = read_runs(arguments.runs)
    sections = report_sections(runs)
    n_runs = "One run" if len(runs) == 1 else f"{len(runs)} runs"
    lead = f"{n_runs}: {', '.join(run.name for run in runs)}."
    title = runs[0].name if len(runs) == 1 else "Comparison of runs"
    output = arguments.output or default_output(arguments.runs)
    write_page(output, title, lead, sections)
    print(f"wrote {output}")
    if arguments.figures is not None:
        for path in save_parts(arguments.figures, sections):
            print(f"wrote {path}")


def page_of_grid(folder: Path) -> Path | None:
    """The page that a grid has drawn of itself; None where the folder is not that of a grid.

    Raises:
        UserError: it is one, or its config, and there is no page yet.
    """
    if folder.suffix in (".yaml", ".yml") and folder.is_file():
        raise UserError(
            f"{folder} is a config, expected folders of runs; if it is of a grid, `nanollama grid results "
            f"{folder}` draws its page."
        )
    if (folder / CONFIG).exists() or not any(folder.glob(f"*/{CONFIG}")):
        return None
    if not (page := folder / OUTPUT).is_file():
        one = min(folder.glob(f"*/{CONFIG}")).parent
        raise UserError(
            f"{folder} holds runs, such as {one}, and no page of their grid: name runs, or draw it with "
            "`nanollama grid results CONFIG`."
        )
    return page


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Render a page and write it.

    Raises:
        UserError: the file cannot be written.
    """
    footer = (
        f"Made by nanollama {nanollama.__version__} from the rows in the run folders. "
        "This file is complete in itself: it loads nothing."
    )
    text = render_page(title, lead, sections, footer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}; name another file with --output.") from None


def save_parts(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Save each picture as SVG, PDF and PNG, and each table as CSV; returns their paths.

    Frames of films are in the page alone: to draw each in every format took longer than all else.

    Raises:
        UserError: the folder cannot be written to.
    """
    paths: list[Path] = []
    taken: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for section in sections:
            for picture in (block for block in section.blocks if isinstance(block, Picture)):
                name = _file_name(picture.name, taken)
                for suffix in FORMATS:
                    paths.append(folder / f"{name}{suffix}")
                    save_figure(picture.figure, paths[-1])
            tables = 0
            for block in section.blocks:
                if isinstance(block, Table | Folded):
                    tables += 1
                    table = block if isinstance(block, Table) else block.table
                    paths.append(folder / f"{section.anchor}_{tables}.csv")
                    write_csv(paths[-1], table.columns, table.rows)
    except OSError as error:
        raise UserError(f"Cannot write into {folder}: {error.strerror}; name another folder.") from None
    return paths


def _file_name(name: str, taken: set[str]) -> str:
    """What files of a picture are called: measures name it, which may be called anything, as `../kl/far`.

    Args:
        name: of the picture.
        taken: what others are called, in small letters; this one is added.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:MAX_NAME].lstrip(".") or "_"
    found, number = safe, 1
    while found.lower() in taken:
        number += 1
        found = f"{safe}_{number}"
    taken.add(found.lower())
    return found


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog=_PROGRAM, description="Make tables, figures and one HTML page of runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html in the run, comparison.html beside several)",
    )
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="also save figures (SVG, PDF, PNG) and tables (CSV) here"
    )
    return parser.parse_args(argv)

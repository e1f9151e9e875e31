"""Options that the commands of the data set share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from apps.memory.dataset.paths import DEFAULT_ROOT
from apps.memory.dataset.people import N_PEOPLE


def add_root(parser: argparse.ArgumentParser) -> None:
    """The option --root."""
    parser.add_argument(
        "--root",
        type=Path,
        default=DEFAULT_ROOT,
        metavar="DIR",
        help=f"folder of all data (default: {DEFAULT_ROOT} in the working directory)",
    )


def add_num(parser: argparse.ArgumentParser) -> None:
    """The option --num."""
    parser.add_argument(
        "--num",
        type=_n_people,
        default=N_PEOPLE,
        metavar="N",
        help=f"the first N people (default: all {N_PEOPLE:,})",
    )


def _n_people(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= N_PEOPLE:
        raise argparse.ArgumentTypeError(f"expected a number of people from 1 to {N_PEOPLE:,}, got '{text}'")
    return int(text)

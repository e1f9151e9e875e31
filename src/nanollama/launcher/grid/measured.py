"""Runs of a grid are compared by measures of the same examples alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanollama.errors import UserError


def check_measured(noted: Mapping[str, Any], folder: Path) -> None:
    """Refuse a grid in which some runs have noted which examples they were measured on, and others have not.

    Runs of before that was noted were measured on the first held-out examples, later ones on some of all
    documents.

    Args:
        noted: by each run, see `nanollama.monitor.run_folder.Run.record_measured`; None where it did not.
        folder: of the grid.

    Raises:
        UserError: there are such runs.
    """
    told = [name for name, hashes in noted.items() if hashes]
    silent = [name for name, hashes in noted.items() if hashes is None]
    if told and silent:
        raise UserError(
            f"Of the runs in {folder}, {len(silent):,} (such as {silent[0]}) did not note which examples "
            f"they were measured on, as none once did, and {len(told):,} did: their measures do not compare. "
            "Remove the folders of the former and run the grid again, or choose another run_dir."
        )

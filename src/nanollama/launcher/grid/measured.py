"""Runs of a grid are compared by measures of the same examples alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanollama.errors import UserError

COUNTED = {"n_documents": ("accuracy", "loss_nats"), "n_text_documents": ("text_loss_nats", "loss_nats")}
"""Measures of held-out text by the count of its documents, which tells since when these are all documents."""


def check_measured(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Refuse a grid in which runs from before held-out examples were spread stand beside later ones.

    Args:
        rows: of `nanollama.launcher.grid.results.collect`.
        folder: of the grid.

    Raises:
        UserError: some finished runs count the documents that they were measured on, and others do not.
    """
    finished = [row for row in rows if row["status"] == "finished"]
    for counted, names in COUNTED.items():
        spread = [row for row in finished if row.get(counted) is not None]
        measured = {name for name in names if any(row.get(name) is not None for row in spread)}
        first = [
            str(row["run"])
            for row in finished
            if row.get(counted) is None and any(row.get(name) is not None for name in measured)
        ]
        if first:
            raise UserError(
                f"Of the runs in {folder}, {len(first):,} (such as {first[0]}) were measured on the first "
                f"held-out examples, as all once were, and {len(spread):,} on some of all documents, which "
                f"they count ({counted}): their measures do not compare. Remove the folders of the former "
                "and run the grid again, or choose another run_dir."
            )

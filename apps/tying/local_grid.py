"""Run a grid of the tying study here: ``python -m apps.tying.local_grid CONFIG``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nanollama.launcher.local import run as local


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return local.main(argv, "python -m apps.tying.local_grid")


if __name__ == "__main__":
    sys.exit(main())

"""Run a grid of the tying study here: ``python -m apps.tying.local_grid CONFIG``."""

from __future__ import annotations

import sys
from functools import partial

from nanollama.launcher.local import run

main = partial(run.main, program="python -m apps.tying.local_grid")

if __name__ == "__main__":
    sys.exit(main())

"""Run a grid of the GSSM study here: ``python -m apps.gssm.local_grid CONFIG``."""

from __future__ import annotations

import sys
from functools import partial

from nanollama.launcher.local import run

main = partial(run.main, program="python -m apps.gssm.local_grid")

if __name__ == "__main__":
    sys.exit(main())

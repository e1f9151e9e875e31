"""Run a verb from a copy of the code: ``python -m nanollama.launcher.slurm.child MODULE CONFIG``.

``python -m`` looks for modules in the working directory first. A job runs in the directory it was submitted
from, where relative paths of its config hold, but its code is the copy that ``PYTHONPATH`` names.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Call ``main(argv[1:])`` of the module ``argv[0]``; its exit code."""
    here = os.getcwd()
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [path for path in sys.path if path in named or path not in ("", here)]
    code = importlib.import_module(argv[0]).main(list(argv[1:]))
    assert isinstance(code, int)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

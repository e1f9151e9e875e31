"""How threads that share a matrix product wait for the next one, on a machine that others use as well.

Left alone, OpenMP's threads wait by spinning, milliseconds long. On a quiet machine nobody minds; on a busy
one they hold the cores that the thread they wait for needs, and training stands still. So they spin for some
microseconds and then sleep. A runtime reads its variables when it is loaded, which is when torch is: they are
set before, by the package ``nanollama`` itself, and ``python -m benchmarks busy`` says what it costs.
"""

from __future__ import annotations

import os
import sys

DEFAULTS = {
    "GOMP_SPINCOUNT": "20000",  # turns of a loop in GNU's runtime, torch's on Linux; 1000 cost a quarter
    "KMP_BLOCKTIME": "1",  # LLVM's and Intel's, torch's on macOS: milliseconds, and whole ones alone
}
VARIABLES = ("OMP_WAIT_POLICY", *DEFAULTS)
"""What a user may say on it; whoever has set one of them is left alone."""


def set_waiting() -> None:
    """Let threads sleep soon, unless the user has chosen, or torch is loaded and would not notice."""
    if "torch" not in sys.modules and not describe_waiting():
        os.environ.update(DEFAULTS)


def describe_waiting() -> dict[str, str]:
    """The variables that say how threads wait, and their values; none: as the runtime likes."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}

"""Run a grid of the toy on this machine."""

from __future__ import annotations

import sys

from nanollama.launcher.local import run as local

if __name__ == "__main__":
    sys.exit(local.main(program="python -m apps.toy.local_grid"))

"""Train the base of the toy: ``python -m apps.toy.first.base CONFIG``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from apps.toy import train
from apps.toy.settings import ToyBaseConfig

from nanollama.entrypoint import run_main

LEFT = "left.txt"


def run(config: ToyBaseConfig) -> None:
    """Train as the config says; leave a file for others when all is done."""
    train.run(config)
    (config.folder / LEFT).touch()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(ToyBaseConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())

"""Examine a checkpoint of the toy: note how large its weights are, in bytes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from apps.toy.settings import ToyEvalConfig

from nanollama.entrypoint import run_main


def run(config: ToyEvalConfig) -> None:
    """Write ``evaluations/<checkpoint>.txt`` into the run folder."""
    folder = config.run.parents[1] / "evaluations"
    folder.mkdir(exist_ok=True)
    size = (config.run / "model.safetensors").stat().st_size
    (folder / f"{config.run.name}.txt").write_text(f"{size} {config.note}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(ToyEvalConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())

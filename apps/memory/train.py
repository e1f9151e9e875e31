"""Train a model of the memory study: ``python -m apps.memory.train CONFIG [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from apps.memory.recall import build_recall
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_stream
from nanollama.entrypoint import run_main
from nanollama.training.run import Parts, train_run


@contextmanager
def build_parts(config: MemoryConfig) -> Iterator[Parts]:
    """What is learned, and the questions that are asked meanwhile."""
    stream, hashes = build_stream(config)
    with build_recall(config) as recall:
        yield Parts(stream, hashes, [recall])


def run(config: MemoryConfig) -> None:
    """Train as the config says, examine the model, leave everything in the run folder."""
    train_run(config, build_parts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(MemoryConfig, run, argv, "Train a model to answer questions about people.")


if __name__ == "__main__":
    sys.exit(main())

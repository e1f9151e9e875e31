"""Train a model of the tying study: ``python -m apps.tying.train CONFIG [key=value ...]``.

``python -m apps.tying.train --epochs 1 --dir data/model ...`` takes options instead, from which it builds
such a config; see `apps.tying.options`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from apps.tying.data import build_stream, check_unlearned, read_text
from apps.tying.measures import Examiner
from apps.tying.settings import TyingConfig
from nanollama.entrypoint import run_main
from nanollama.training.run import Parts, train_run


@contextmanager
def build_parts(config: TyingConfig) -> Iterator[Parts]:
    """What is learned, its hashes, and what is measured."""
    check_unlearned(config)
    text = read_text(config)
    yield Parts(
        stream=build_stream(config, text),
        data_hashes=text.hashes,
        evaluators=[Examiner(config, config.measures, text)],
        spell=lambda token: text.tokenizer.id_to_token(token) or str(token),
    )


def run(config: TyingConfig) -> None:
    """Train as the config says, measure the model, leave everything in the run folder."""
    train_run(config, build_parts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    from apps.tying import options

    arguments = list(sys.argv[1:] if argv is None else argv)
    if options.are_options(arguments):
        return options.main(arguments)
    return run_main(TyingConfig, run, arguments, "Train with embeddings tied, untied, or untied midway.")


if __name__ == "__main__":
    sys.exit(main())

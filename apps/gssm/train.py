"""Train a model of the GSSM study: ``python -m apps.gssm.train CONFIG [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import numpy as np

from apps.gssm.associative import RecallExaminer, RecallStream, sequences_sha256
from apps.gssm.data_config import GraphDataConfig
from apps.gssm.examiner import Examiner
from apps.gssm.files import read_sequences
from apps.gssm.recall_config import RecallDataConfig
from apps.gssm.settings import GssmConfig
from apps.gssm.source import Source, build_source
from apps.gssm.streams import FreshStream
from nanollama.data.rows import RowStream
from nanollama.data.stream import Stream
from nanollama.entrypoint import run_main
from nanollama.seeds import named_seed
from nanollama.training.run import Parts, train_run


@contextmanager
def build_parts(config: GssmConfig) -> Iterator[Parts]:
    """The sequences that are learned, and what is measured."""
    data, training = config.data, config.training
    if isinstance(data, RecallDataConfig):
        yield Parts(
            stream=RecallStream(data, training.batch_size),
            data_hashes={"sequences": sequences_sha256(data)},
            evaluators=[RecallExaminer(data, config.measures.n_sequences)],
        )
        return
    source = build_source(data)
    hashes = {"source": source.sha256}
    stream: Stream = FreshStream(source, training.batch_size)
    if data.file is not None or data.n_data is not None:
        sequences = listed_sequences(data, source)
        hashes["sequences"] = sha256(np.ascontiguousarray(sequences).data).hexdigest()
        stream = RowStream(sequences, training.batch_size, named_seed(training.seed, "data"))
    yield Parts(stream, hashes, evaluators=[Examiner(source, config.measures)])


def listed_sequences(data: GraphDataConfig, source: Source) -> np.ndarray:
    """The sequences (n, T + 1) that epochs go over, from the config's file or drawn now.

    Raises:
        UserError: the file cannot be used.
    """
    if data.file is not None:
        return read_sequences(data.file, source, data.n_data)
    assert data.n_data is not None
    return source.draw_many(range(data.n_data))


def run(config: GssmConfig) -> None:
    """Train as the config says, measure the model, leave everything in the run folder."""
    train_run(config, build_parts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(GssmConfig, run, argv, "Train a model on sequences whose entropy is known exactly.")


if __name__ == "__main__":
    sys.exit(main())

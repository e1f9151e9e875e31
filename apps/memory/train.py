"""Train a model of the memory study: ``python -m apps.memory.train CONFIG [key=value ...]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from apps.memory.data_settings import DIALOG_TOKENS
from apps.memory.held_out import check_unlearned
from apps.memory.pretrained_model.forgetting import build_forgetting
from apps.memory.pretrained_model.stored import note_origin, stored_hash
from apps.memory.recall import RecallEvaluator, build_recall
from apps.memory.samples import pick_samples
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_stream
from nanollama.entrypoint import run_main
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.successor import DIALOGS, TOKENIZER_FOLDER
from nanollama.pretrained_tokenizer import PretrainedTokenizer
from nanollama.report.runs import write_samples
from nanollama.training.run import Parts, train_run


class Examiner:
    """Asks the questions of a run, and leaves some of the newest answers in its folder, to be looked at.

    Args:
        recall: asks them.
        folder: of the run.
    """

    def __init__(self, recall: RecallEvaluator, folder: Path) -> None:
        self._recall = recall
        self._folder = folder

    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """See `nanollama.training.loop.Evaluator`."""
        answers = self._recall.ask(model)
        write_samples(self._folder / DIALOGS, pick_samples(answers))
        return self._recall.summarise(answers, model.n_params())


@contextmanager
def build_parts(config: MemoryConfig) -> Iterator[Parts]:
    """What is learned, and the questions that are asked meanwhile."""
    check_unlearned(config)
    stream, hashes = build_stream(config)
    forgetting = None
    if config.pretrained is not None:
        hashes["model"] = stored_hash(config.pretrained)
        if os.environ.get("RANK", "0") == "0":
            PretrainedTokenizer(config.pretrained, DIALOG_TOKENS).save(config.folder / TOKENIZER_FOLDER)
            note_origin(config.folder, config.pretrained)
        forgetting = build_forgetting(config)
    with build_recall(config) as recall:
        examiner = Examiner(recall, config.folder)
        yield Parts(stream, hashes, [examiner] if forgetting is None else [examiner, forgetting])


def run(config: MemoryConfig) -> None:
    """Train as the config says, examine the model, leave everything in the run folder."""
    if config.engine == "trainer":
        from apps.memory.pretrained_model.trainer import train_by_trainer

        train_by_trainer(config, build_parts)
    else:
        train_run(config, build_parts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(MemoryConfig, run, argv, "Train a model to answer questions about people.")


if __name__ == "__main__":
    sys.exit(main())

"""Train a new model on text: ``python -m apps.memory.pretrained_model.pretrain CONFIG [key=value ...]``.

At its end, the folder ``model`` of the run holds model and tokenizer as transformers and others read them, so
that ``finetune`` can start from it (``model.path: runs/pretrain/model``) and no hub is needed.
``samples.jsonl`` has what the model wrote at each evaluation.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from apps.memory.data_settings import DIALOG_TOKENS
from apps.memory.pretrained_model.forgetting import complete
from apps.memory.pretrained_model.settings import PretrainConfig, PretrainMeasuresConfig
from apps.memory.sums import SUM_KINDS, sum_dialogs
from nanollama.data.rows import RowSource, RowStream
from nanollama.data.stream import DocumentStream, Stream
from nanollama.data.text.spread import document_means, examples_hash, spread_rows
from nanollama.data.text.tokenised import TokenisedText, tokenise_for
from nanollama.data.text.tokens import end_id, token_bytes
from nanollama.dialogs.generate import evaluating
from nanollama.dialogs.source import DialogSource
from nanollama.entrypoint import run_main
from nanollama.errors import UserError
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.rows import RowFile
from nanollama.monitor.successor import MODEL, SAMPLES
from nanollama.pretrained_tokenizer import PretrainedTokenizer, add_special_tokens
from nanollama.seeds import named_seed
from nanollama.statistics import mean_interval
from nanollama.training.run import Parts, train_run
from nanollama.training.trained import load_run, loaded_runs


class TextExaminer:
    """Loss and samples on held-out text; see `nanollama.training.loop.Evaluator`.

    Args:
        text: whose tokens the model reads.
        config: how much is measured.
        folder: of the run, for the samples.
    """

    def __init__(self, text: TokenisedText, config: PretrainMeasuresConfig, folder: Path) -> None:
        documents = text.documents(config.split)
        chosen = spread_rows(documents, config.n_rows)
        rows, self._documents = text.rows(config.split)[chosen].astype(np.int64), documents[chosen]
        self.measured = {config.split: examples_hash(self._documents, rows)}
        self._rows, self._config, self._text, self._folder = torch.from_numpy(rows), config, text, folder
        lengths = token_bytes(text.tokenizer)
        self._n_bytes = None if lengths is None else int(lengths[rows[:, 1:]].sum())

    def evaluate(self, model: LanguageModel, step: int) -> dict[str, float]:
        """``loss_nats`` a token, with its 95 % interval, documents as the unit, and ``bits_per_byte``.

        The loss is the mean over ``n_text_documents`` of that of their examples; one document has no
        interval. Bits are measured only where tokens stand for whole bytes, so that these can be counted.
        """
        with evaluating(model):
            losses: list[float] = []
            for part in self._rows.split(self._config.batch_size):
                ids = part.to(model.device)
                each = F.cross_entropy(
                    model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
                )
                losses += each.view(len(ids), -1).mean(dim=1).tolist()
            self._write_samples(model, step)
        mean, low, high, _ = mean_interval(document_means(losses, self._documents))
        measures = {"loss_nats": mean, "loss_nats_low": low, "loss_nats_high": high}
        measures["n_text_documents"] = len(np.unique(self._documents))
        if self._n_bytes is not None:
            nats = sum(losses) * (self._rows.shape[1] - 1)
            measures["bits_per_byte"] = nats / np.log(2) / self._n_bytes
        return measures

    def _write_samples(self, model: LanguageModel, step: int) -> None:
        config, tokenizer = self._config, self._text.tokenizer
        prompts = self._rows[: config.n_samples, : config.prompt_len].to(model.device)
        written = complete(model, prompts, config.n_new)[:, config.prompt_len :]
        samples = [
            {"prompt": _text(tokenizer, prompt), "written": _text(tokenizer, ids)}
            for prompt, ids in zip(prompts.tolist(), written.tolist(), strict=True)
        ]
        file = RowFile(self._folder / SAMPLES)
        file.cut(step - 1)  # of steps that a run which was stopped takes again
        file.append({"step": step, "samples": samples})


def _text(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def read_text(config: PretrainConfig) -> TokenisedText:
    """The tokens of a run.

    Raises:
        UserError: as `tokenise_for`, or the model has no room for the tokens of dialogs.
    """
    text = tokenise_for(config.text, config.model.vocab_size)
    needed = text.vocab_size + len(config.added_tokens)
    if needed > config.model.vocab_size:
        raise UserError(
            f"model.vocab_size = {config.model.vocab_size} is too small: the tokenizer has {text.vocab_size} "
            f"tokens and dialogs take {len(config.added_tokens)} more; set it to {needed}."
        )
    return text


def build_stream(config: PretrainConfig, text: TokenisedText) -> Stream:
    """Text, and dialogs among it where the config says so."""
    rows, n_rows = text.rows("train"), config.training.batch_size
    seed = named_seed(config.training.seed, "data")
    if config.dialogs is None:
        return RowStream(rows, n_rows, named_seed(seed, "rows"))
    share, sums = config.dialogs.share, config.dialogs.sums
    tokenizer = PretrainedTokenizer("", DIALOG_TOKENS, package_tokenizer(config, text))
    dialogs = [
        DialogSource(
            [dialog.messages for dialog in sum_dialogs(sums, "trained", kind, sums.n_sums)], tokenizer
        )
        for kind in SUM_KINDS
    ]
    return DocumentStream(
        [RowSource(rows), *dialogs], n_rows, seed, weights=[1 - share, *[share / len(dialogs)] * len(dialogs)]
    )


def package_tokenizer(config: PretrainConfig, text: TokenisedText) -> Any:
    """The tokenizer of a run as transformers has it, with the tokens of dialogs where there are any."""
    import transformers

    package = transformers.PreTrainedTokenizerFast(
        tokenizer_object=text.tokenizer,
        eos_token=text.tokenizer.id_to_token(end_id(text.tokenizer)),
        model_max_length=config.model.max_seq_len,
    )
    add_special_tokens(package, config.added_tokens)
    return package


@contextmanager
def build_parts(config: PretrainConfig) -> Iterator[Parts]:
    """What is learned, its hashes, and what is measured."""
    for path, source in loaded_runs(config):
        config.text.check_unlearned(path, source.text)
    text = read_text(config)
    yield Parts(
        stream=build_stream(config, text),
        data_hashes=text.hashes,
        evaluators=[TextExaminer(text, config.measures, config.folder)],
    )


def run(config: PretrainConfig) -> None:
    """Train as the config says; leave the model in its folder, beside everything else of the run."""
    train_run(config, build_parts)
    if os.environ.get("RANK", "0") == "0":
        print(f"wrote {write_model(config)}")


def write_model(config: PretrainConfig) -> Path:
    """The trained model with its tokenizer, as transformers reads them; returns the folder."""
    import transformers

    model = load_run(PretrainConfig, config.folder, ["training.device=cpu"]).model.get_submodule("model")
    assert isinstance(model, transformers.PreTrainedModel)
    package = package_tokenizer(config, read_text(config))
    model.config.eos_token_id = model.generation_config.eos_token_id = package.eos_token_id
    folder = config.folder / MODEL
    new = config.folder / f".{MODEL}.new"  # who reads it meanwhile finds the old one, or none
    shutil.rmtree(new, ignore_errors=True)
    model.save_pretrained(new)
    package.save_pretrained(new)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(PretrainConfig, run, argv, "Train a new model on text, to be finetuned.")


if __name__ == "__main__":
    sys.exit(main())

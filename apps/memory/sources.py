"""What a model of this study reads: dialogs and biographies from files, as one stream of batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from apps.memory.dataset.dependent import dependent_people
from apps.memory.dataset.dialogs import DialogKind, make_dialog
from apps.memory.dataset.generate import ensure_biographies, ensure_dialogs
from apps.memory.dataset.people import ATTRIBUTES
from apps.memory.settings import MemoryConfig, SourceKind
from apps.memory.sums import sum_dialogs
from nanollama.data.stream import DocumentStream
from nanollama.dialogs.source import DialogSource, open_texts, read_dialogs
from nanollama.errors import UserError
from nanollama.seeds import named_seed
from nanollama.tokenizer import ByteTokenizer, Message


def build_tokenizer() -> ByteTokenizer:
    """Bytes and the four special tokens of the study: 260 ids.

    ``<database>`` opens the reply of whichever tool was called, so all models of the study have one
    vocabulary.
    """
    return ByteTokenizer(roles=("user", "assistant", "database"))


def read_tokenizer(config: MemoryConfig) -> ByteTokenizer:
    """The tokenizer of a run: all have one."""
    return build_tokenizer()


def build_stream(config: MemoryConfig) -> tuple[DocumentStream, dict[str, str]]:
    """The stream of a run, and the hash of what it reads, by name. What is missing of files is written.

    Raises:
        UserError: a file is damaged or holds something else, or a text is longer than the model can read.
    """
    tokenizer = build_tokenizer()
    if config.model.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"model.vocab_size = {config.model.vocab_size} is too small: the study's tokenizer has "
            f"{tokenizer.vocab_size} ids (256 bytes, user, assistant, database, end)."
        )
    sources: list[DialogSource] = []
    hashes: dict[str, str] = {}
    for source in config.data.sources:
        texts = read_texts(config, source.kind)
        sources.append(DialogSource(texts, tokenizer))
        hashes[source.kind] = _hash(texts)
        longest = int(sources[-1].lengths().max()) - 1
        if longest > config.model.max_seq_len:
            raise UserError(
                f"model.max_seq_len = {config.model.max_seq_len} is too small: the longest text of "
                f"'{source.kind}' has {longest} tokens."
            )
        if config.data.batching == "packed" and longest > (config.data.row_len or longest):
            raise UserError(
                f"data.row_len = {config.data.row_len} is too small: the longest text of '{source.kind}' has "
                f"{longest} tokens."
            )
    stream = DocumentStream(
        sources,
        config.training.batch_size,
        named_seed(config.training.seed, "data"),
        weights=[source.weight for source in config.data.sources],
        batching=config.data.batching,
        row_len=config.data.row_len,
    )
    return stream, hashes


def read_texts(config: MemoryConfig, kind: SourceKind) -> list[list[Message]]:
    """All texts of one kind that a run learns from; biographies are turns of the assistant alone."""
    root, n_people = config.data_root, config.data.n_people
    if kind == "sums" or kind == "sumstool":
        dialogs = sum_dialogs(config.data.sums, "trained", kind, config.data.sums.n_sums)
        return [list(dialog.messages) for dialog in dialogs]
    if (dependence := config.data.dependence) is not None:
        known = dependent_people(dependence.alpha, n_people, dependence.seed)
        dialog_kind: DialogKind = "qatool" if kind == "qatool" else "qa"
        return [
            list(make_dialog(who, attribute, dialog_kind, config.data.language).messages)
            for who in known
            for attribute in ATTRIBUTES
        ]
    if kind == "biographies":
        return list(_read_biographies(ensure_biographies(root, n_people), n_people))
    path = ensure_dialogs(root, kind, config.data.language, "train", n_people)
    return read_dialogs(path, build_tokenizer().roles, n_people * len(ATTRIBUTES))


def _read_biographies(path: Path, n_people: int) -> Iterator[list[Message]]:
    with open_texts(path) as lines:
        for number, line in enumerate(islice(lines, n_people), start=1):
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError):
                text = None
            if not isinstance(text, str):
                raise UserError(f"{path}:{number}: not a biography; expected a key 'text' with a text.")
            yield [Message("assistant", text)]


def _hash(texts: Sequence[Sequence[Message]]) -> str:
    digest = hashlib.sha256()
    for messages in texts:
        digest.update(repr(messages).encode())
    return digest.hexdigest()[:16]

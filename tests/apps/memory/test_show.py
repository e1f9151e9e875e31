"""A look at a batch: texts, what is learned in them, sizes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from toy_run import TOKENIZER, learned_dialogs, toy_config

from apps.memory.settings import MemoryConfig
from apps.memory.show import Document, characters_of, documents_of, main, print_document
from apps.memory.sources import build_stream
from nanollama.cli.command import main as nanollama
from nanollama.config import dump_config
from nanollama.tokenizer import Message


def write(config: MemoryConfig, tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    return str(path)


def as_set(documents: Iterable[Document]) -> set[tuple[bytes, bytes]]:
    return {(ids.astype(np.int64).tobytes(), mask.tobytes()) for ids, mask in documents}


@pytest.mark.parametrize("batching", ["trimmed", "packed"])
@pytest.mark.parametrize("kind", ["qa", "qatool"])
def test_the_documents_of_a_batch_are_those_learned_from(kind: str, batching: str, tmp_path: Path) -> None:
    data = {"n_people": 2, "sources": [{"kind": kind}], "batching": batching, "row_len": 400}
    config = toy_config(tmp_path, data=data)
    stream, _ = build_stream(config)
    batch = stream.batch(0)
    found = [document for row in range(len(batch.input_ids)) for document in documents_of(batch, row)]
    expected = [TOKENIZER.encode_dialog(dialog.messages) for dialog in learned_dialogs(config)]
    assert len(found) == 8
    assert as_set(found) == as_set(Document(dialog.ids, dialog.loss_mask) for dialog in expected)
    assert (batching == "packed") == (len(batch.input_ids) < 8)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(toy_config(tmp_path), tmp_path)
    assert main([path]) == 0
    lines = capsys.readouterr().out.splitlines()
    stop = lines.index("row 1")
    text, marks = lines[2:stop:2], lines[3:stop:2]
    assert lines[1] == "row 0" and text[0].startswith("<user>W")
    learned = "".join(
        character
        for line, mark in zip(text, marks, strict=True)
        for character, sign in zip(line, mark.ljust(len(line)), strict=True)
        if sign == "^"
    )
    assert learned.startswith("I do not know this by heart") and learned.endswith(".<end>")
    assert "↵```↵FIND " in learned and "<user>" not in learned
    assert lines[-4] == "6 of the batch's 8 rows"
    assert lines[-3].startswith("8 texts of 1")
    assert "% padding" in lines[-2] and "tokens carry loss, " in lines[-1]


def test_marks_stand_below_what_is_learned(capsys: pytest.CaptureFixture[str]) -> None:
    messages = [Message("user", "Where?"), Message("assistant", "There\nor here")]
    document = Document(*TOKENIZER.encode_dialog(messages).__dict__.values())
    print_document(Console(width=24), document, TOKENIZER)
    assert capsys.readouterr().out.splitlines() == [
        "<user>Where?<assistant>T",
        "                       ^",
        "here↵or here<end>",
        "^^^^^^^^^^^^^^^^^",
    ]


def test_colours_replace_marks(capsys: pytest.CaptureFixture[str]) -> None:
    document = Document(np.array([65, 66]), np.array([False, True]))
    console = Console(width=24, force_terminal=True, color_system="standard", no_color=False)
    print_document(console, document, TOKENIZER)
    assert capsys.readouterr().out == "\x1b[2mA\x1b[0m\x1b[1;32mB\x1b[0m\n"


def test_characters_of_several_bytes_and_of_none() -> None:
    ids = np.array([*"é[b]".encode(), 0x1B, 0xFF])
    characters = list(characters_of(Document(ids, np.zeros(7, dtype=bool)), TOKENIZER))
    assert "".join(text for text, _ in characters) == "é[b]\ufffd\ufffd"


def test_through_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(toy_config(tmp_path, "qa"), tmp_path)
    monkeypatch.chdir(Path(__file__).parents[3])
    assert nanollama(["data", "show", path, "training.batch_size=2"]) == 0
    assert "2 of the batch's 2 rows" in capsys.readouterr().out
    assert nanollama(["data", "show", path, "training.batchsize=2"]) == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err

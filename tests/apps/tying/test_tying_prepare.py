"""What a grid of the study reads is there, once, before its runs start."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.tying import data, prepare, train
from apps.tying.settings import TyingConfig
from nanollama.config import load_config
from nanollama.data.text import corpus
from nanollama.data.text.tokenised import TokenisedText

pytest.importorskip("tokenizers")
CONFIG = Path(train.__file__).parent / "config" / "debug.yaml"


def test_the_corpus_of_a_grid_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [
        load_config(TyingConfig, [str(CONFIG), "text.tokenizer.vocab_size=100", f"training.seed={seed}"])
        for seed in (1, 2)
    ]
    monkeypatch.chdir(tmp_path)
    made = []

    def make(out: Path) -> None:
        made.append(out)
        out.parent.mkdir(parents=True)
        out.write_text("".join(f'{{"text": "number {n} of many"}}\n' for n in range(200)))

    read = []

    def read_text(config: TyingConfig) -> TokenisedText:
        read.append(config)
        return data.read_text(config)

    monkeypatch.setattr(corpus, "make_corpus", make)
    monkeypatch.setattr(prepare, "read_text", read_text)
    prepare.prepare(configs)
    assert made == [corpus.DEFAULT_OUT] and read == configs[:1]
    (tokens,) = Path(configs[0].text.cache).iterdir()
    assert (tokens / "train.npy").is_file()

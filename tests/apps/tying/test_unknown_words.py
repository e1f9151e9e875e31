"""Text of which a tokenizer knows little: rows of nothing but special tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from apps.tying import train
from apps.tying.data import learned_rows
from apps.tying.measures import Examiner
from apps.tying.settings import TyingConfig
from nanollama.config import load_config
from nanollama.data.text.tokenised import TokenisedText
from nanollama.errors import UserError

CONFIG = Path(train.__file__).parent / "config" / "debug.yaml"
UNKNOWN, KNOWN = [1] * 8, [1] * 7 + [5]


def text(folder: Path, **rows: list[list[int]]) -> TokenisedText:
    """Kept rows, by split, of a tokenizer of seven tokens, of which five are special."""
    from tokenizers import Tokenizer, models

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = {token: number for number, token in enumerate([*special, "a", "b"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    for split, found in rows.items():
        np.save(folder / f"{split}.npy", np.array(found, dtype=np.uint16).reshape(-1))
    return TokenisedText(folder, {}, 8)


def config(*keys: str) -> TyingConfig:
    return load_config(TyingConfig, [str(CONFIG), "text.seq_len=8", *keys])


def test_rows_in_which_nothing_can_be_masked_are_not_learned(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    found = text(tmp_path, train=[UNKNOWN, KNOWN, UNKNOWN, KNOWN])
    assert learned_rows(config(), found).tolist() == [KNOWN, KNOWN]
    assert learned_rows(config("n_rows=1"), found).tolist() == [KNOWN]
    causal = config("model.causal=true", "model.positions=rotary", "n_rows=3")
    assert learned_rows(causal, found).tolist() == [UNKNOWN, KNOWN, UNKNOWN]


def test_held_out_text_in_which_nothing_can_be_masked_is_refused_at_the_start(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    found = text(tmp_path, train=[KNOWN], valid=[UNKNOWN], test=[UNKNOWN, KNOWN])
    with pytest.raises(UserError, match=r"No token of the text for valid can be masked, all are special"):
        Examiner(config(), config().measures, found)
    (batch,) = Examiner(config(), config("measures.split=test").measures, found).batches
    assert batch.n_examples == 1 and batch.n_loss_tokens == 1

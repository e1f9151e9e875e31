"""What `nanollama new study` writes refuses models that are too small for its sequences."""

from __future__ import annotations

import sys
from pathlib import Path
from string import Template
from types import ModuleType

import pytest

import nanollama

TEMPLATE = Path(nanollama.__file__).parent / "cli" / "study_template" / "study" / "settings.py.in"


def test_a_model_reads_sequences_and_knows_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ModuleType("counting_settings")
    monkeypatch.setitem(sys.modules, settings.__name__, settings)
    exec(Template(TEMPLATE.read_text()).substitute(name="counting"), settings.__dict__)

    def check(**lengths: int) -> None:
        model = {"d_model": 8, "n_layers": 1, "n_heads": 2, **lengths}
        settings.TrainConfig.model_validate(
            {"study": "counting", "name": "run", "model": model, "training": {"n_steps": 1}}
        )

    check(vocab_size=20, max_seq_len=17)
    with pytest.raises(ValueError, match=r"model\.vocab_size = 19: expected at least 20"):
        check(vocab_size=19, max_seq_len=17)
    with pytest.raises(ValueError, match=r"model\.max_seq_len = 16: expected at least 17"):
        check(vocab_size=20, max_seq_len=16)

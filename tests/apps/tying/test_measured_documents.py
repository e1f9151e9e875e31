"""Held-out accuracy is told by document: of all of them, with an interval that holds the truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.tying import data, train
from apps.tying import exhibits as exhibits_module
from apps.tying.data import held_out_batches, held_out_examples, read_text
from apps.tying.measures import Examiner, accuracy_interval
from apps.tying.settings import TyingConfig
from nanollama.config import load_config
from nanollama.data.text.spread import spread_rows
from nanollama.model import build_model

pytest.importorskip("tokenizers")
CONFIG = Path(train.__file__).parent / "config/debug.yaml"
SMALL = [
    "text.files=[text.txt]",
    "text.tokenizer.vocab_size=100",
    "text.held_out=0.3",
    "text.cache=cache",
    "text.seq_len=16",
    "model.d_model=16",
    "interventions=[]",
]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TyingConfig:
    monkeypatch.chdir(tmp_path)
    letters = np.random.default_rng(0).choice([*"abcdefgh"], (30, 120))
    Path("text.txt").write_text("\n".join(" ".join(document) for document in letters))
    return load_config(TyingConfig, [str(CONFIG), *SMALL])


def test_accuracy_of_documents_with_an_effect_of_their_own() -> None:
    """40 documents of 20 to 80 examples of 16 tokens, 512 of which are measured: nominally 95 %."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        rates = rng.beta(8, 12, 40)
        documents = np.repeat(np.arange(40), rng.integers(20, 80, 40))
        documents = documents[spread_rows(documents, 512)]
        right = rng.binomial(16, rates[documents])
        found = accuracy_interval(right.tolist(), [16] * len(documents), documents)
        covered.append(found.low <= 0.4 <= found.high)
    assert np.mean(covered) >= 0.93


def test_a_single_document_has_no_interval() -> None:
    found = accuracy_interval([3, 5], [8, 8], np.array([4, 4]))
    assert found.mean == 0.5 and found.n == 1
    assert math.isnan(found.low) and math.isnan(found.high)


def test_what_is_measured_is_of_all_documents(config: TyingConfig) -> None:
    text = read_text(config)
    n_documents = len({*text.documents("valid").tolist()})
    assert n_documents > 3
    measures = config.measures.model_copy(update={"n_rows": n_documents + 2})
    model = build_model(config.model, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        found = Examiner(config, measures, text).evaluate(model, 0)
    assert found["n_documents"] == n_documents
    assert found["accuracy_low"] <= found["accuracy"] < found["accuracy_high"]


def test_the_mask_of_an_example_does_not_depend_on_how_many_are_measured(config: TyingConfig) -> None:
    text = read_text(config)
    (whole,) = held_out_batches(config, text, "valid", None, 1000)
    (part,) = held_out_batches(config, text, "valid", 7, 1000)
    numbers, documents = held_out_examples(config, text, "valid", 7)
    assert torch.equal(part.input_ids, whole.input_ids[torch.from_numpy(numbers)])
    assert (documents == text.documents("valid")[numbers]).all()


def test_a_run_goes_on_with_the_examples_that_it_was_measured_on(
    config: TyingConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["training.n_steps=4", "training.eval_every=1", "training.checkpoint.every=1"]
    argv = [str(CONFIG), *SMALL, *steps, "training.device=cpu", "measures.n_rows=7", "run_dir=run"]
    for _ in range(2):  # what a step has come to is measured when the run goes on
        assert train.main([*argv, "training.max_minutes=1e-9"]) == 75
    notes = Path("run/environment.json")
    noted = json.loads(notes.read_text())
    assert noted["measured"].keys() == {"valid"}
    before = Path("run/evals.jsonl").read_text()
    with monkeypatch.context() as patched:  # the first ones, as once
        patched.setattr(data, "spread_rows", lambda documents, n_rows: np.arange(n_rows))
        assert train.main(argv) == 2
    assert "The set of examples to measure on, valid, is not what the run" in capsys.readouterr().err
    notes.write_text(json.dumps({key: value for key, value in noted.items() if key != "measured"}))
    assert train.main(argv) == 2
    said = capsys.readouterr().err
    assert "did not note which examples it was measured on" in said and "overwrite=true" in said
    assert Path("run/evals.jsonl").read_text() == before
    notes.write_text(json.dumps(noted))
    assert train.main(argv) == 0


def test_an_example_that_is_shown_is_called_by_its_number(
    config: TyingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exhibits_module, "MAX_SCORED", 7)
    numbers, _ = held_out_examples(config, read_text(config), "valid", 7)
    titles = [shown.title for shown in exhibits_module.exhibits(config).sequences]
    assert titles == [f"valid example {number}" for number in numbers]

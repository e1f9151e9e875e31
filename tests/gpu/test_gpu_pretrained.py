"""A pretrained model on a GPU: finetuned, stopped and gone on with, examined, taken to transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from apps.memory import eval as memory_eval
from apps.memory.pretrained_model import finetune
from apps.memory.settings import MemoryConfig
from nanollama.exchange.export import export_hf
from nanollama.training.trained import load_run
from tests.apps.memory.test_finetune import LORA, config_of, rows, write
from tests.toy_pretrained import write_model, write_text
from tests.toy_training import same_end

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
GPU = {"device": "cuda", "deterministic": True}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random pretrained model in the working directory, with a text beside it."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    return write_model(tmp_path / "base")


@pytest.mark.parametrize("model", [{}, {"lora": LORA, "gradient_checkpointing": True}], ids=["full", "lora"])
def test_a_stopped_run_ends_with_the_same_bits(model: dict[str, Any], base: Path) -> None:
    if model:
        pytest.importorskip("peft")
    config = config_of(base, has_text=True, model=model, training=GPU)
    file, whole = write(config), Path("whole")
    assert finetune.main([file]) == 0
    losses = [row["loss"] for row in rows(config.folder)]
    Path(config.folder).rename(whole)
    assert finetune.main([file]) == 0
    folder = Path(config.folder)
    (folder / "result.json").unlink()
    newest = folder / "checkpoints/step_00000004"
    for part in newest.iterdir():
        part.unlink()
    newest.rmdir()
    assert finetune.main([file]) == 0
    assert same_end(whole, folder) and losses[-1] < losses[0]


def test_what_was_forgotten_is_measured_there_and_the_model_exported(base: Path) -> None:
    config = config_of(base, has_text=True, training=GPU)
    assert finetune.main([write(config)]) == 0
    (row,) = rows(config.folder, "evals.jsonl")
    assert 0 < row["total_variation_base"] < 1 and row["kl_base_nats"] > 0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    Path("eval.yaml").write_text(
        f"study: memory\nrun: {config.folder}\n"
        "recall: {n_people: 2, sets: [trained], max_new_tokens: 150}\n"
    )
    assert memory_eval.main(["eval.yaml"]) == 0
    assert torch.cuda.max_memory_allocated() > before
    export_hf(config.folder, Path("there"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained("there").to("cuda").eval()
    tuned = load_run(MemoryConfig, config.folder).model.to("cuda").eval()
    ids = torch.arange(5, 25, device="cuda")[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, tuned(ids), atol=1e-4, rtol=1e-4)

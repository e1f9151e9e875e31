"""Dialogs per second of finetuning: our loop beside a plain Trainer: ``python -m benchmarks finetune``.

Both train the same Llama on the same batches of `qa` dialogs of the memory study, cut by the same tokenizer.

    plain   the Trainer as one writes it: dialogs padded to the longest of a batch, labels for its own loss
    ours    what `apps.memory.pretrained_model.finetune` runs: logits where the loss looks, two micro-batches
            ordered by length, bfloat16 where the processor has it
"""

from __future__ import annotations

import itertools
import queue
import threading
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from apps.memory.data_settings import DIALOG_TOKENS
from apps.memory.dataset.dialogs import make_dialog
from apps.memory.dataset.people import ATTRIBUTES, people
from benchmarks.training_speed import NO_BFLOAT16, UNIT, steps_of
from benchmarks.turns import Contestant, Pair, Step
from nanollama.data.stream import DocumentStream
from nanollama.data.text.config import BytePairConfig
from nanollama.data.text.tokens import END_OF_TEXT, build_tokenizer
from nanollama.dialogs.source import DialogSource
from nanollama.distributed import open_world
from nanollama.model import HuggingFaceConfig, build_model
from nanollama.precision import choose_precision
from nanollama.pretrained_tokenizer import PretrainedTokenizer, add_special_tokens
from nanollama.training.learner import Learner
from nanollama.training.loss import next_token_loss
from nanollama.training.optim import OptimizerConfig

BATCH_SIZE, N_PEOPLE, VOCAB_SIZE = 64, 500, 4096
N_WARM = 3
AIM = 2.0
SIZES = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "tie_word_embeddings": True,
}
BUDGET_SECONDS = 60.0


def read() -> DocumentStream:
    """Batches of the dialogs of the first people; pairs of bytes are learned from what is told of them."""
    import transformers

    asked = itertools.product(people(0, N_PEOPLE), ATTRIBUTES)
    dialogs = [make_dialog(person, attribute, "qa").messages for person, attribute in asked]
    texts = (message.content for messages in dialogs for message in messages)
    made = BytePairConfig(implementation="byte_pairs", vocab_size=VOCAB_SIZE - len(DIALOG_TOKENS))
    package = transformers.PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(made, texts), eos_token=END_OF_TEXT
    )
    add_special_tokens(package, tuple(DIALOG_TOKENS.values()))
    tokenizer = PretrainedTokenizer("", DIALOG_TOKENS, package)
    return DocumentStream([DialogSource(dialogs, tokenizer)], BATCH_SIZE, seed=0)


def llama() -> Any:
    """The model of both, with the face of ours."""
    config = HuggingFaceConfig.model_validate(
        {"implementation": "hugging_face", "architecture": "llama", "vocab_size": VOCAB_SIZE, "sizes": SIZES}
    )
    return build_model(config, torch.Generator().manual_seed(0))


def ours() -> Step:
    """A step of our loop, making the batch included."""
    stream = read()
    with open_world("cpu") as world:
        precision = choose_precision("auto", world.device)
        learner = Learner(
            llama(), next_token_loss, OptimizerConfig(), world, precision=precision, n_accumulation=2
        )

    return steps_of(learner, stream, BATCH_SIZE)


def trainer(folder: Path, bfloat16: bool) -> Step:
    """A step of the Trainer, which runs in a thread and waits after each until it is asked for the next."""
    import transformers

    stream = read()
    rows = [stream.sources[0].document(index) for index in range(len(stream.sources[0]))]
    documents = [{"input_ids": ids, "labels": [int(i) if m else -100 for i, m in zip(ids, mask, strict=True)]}
                 for ids, mask in rows]  # fmt: skip
    asked: queue.Queue[bool] = queue.Queue()
    done: queue.Queue[bool] = queue.Queue()

    class Turns(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            asked.get()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            done.put(True)

    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=BATCH_SIZE,
        max_steps=10**6,
        learning_rate=1e-3,
        bf16=bfloat16,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    plain = transformers.Trainer(
        model=llama().get_submodule("model"),
        args=arguments,
        train_dataset=documents,
        data_collator=collate,
        callbacks=[Turns()],
    )
    threading.Thread(target=plain.train, daemon=True).start()

    def step(number: int) -> float:
        asked.put(True)
        done.get(timeout=180)
        return BATCH_SIZE

    return step


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Padded to the longest of the batch."""
    length = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filler: int) -> Tensor:
        return torch.stack(
            [F.pad(torch.as_tensor(row[name]), (0, length - len(row[name])), value=filler) for row in rows]
        )

    ids = padded("input_ids", 0)
    read = torch.stack([torch.arange(length) < len(row["input_ids"]) for row in rows]).long()
    return {"input_ids": ids, "labels": padded("labels", -100), "attention_mask": read}


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    setting = f"finetune on qa, {SIZES['hidden_size']} wide x {SIZES['num_hidden_layers']} layers"
    we = Contestant("ours", ours, N_WARM)
    found = []
    for bfloat16, name in ((False, "as it is"), (True, "in bfloat16")):
        plain = Contestant(f"Trainer, {name}", partial(trainer, folder / name, bfloat16), N_WARM)
        aim = None if bfloat16 else AIM
        found.append(Pair(setting, UNIT, we, plain, aim, NO_BFLOAT16 if bfloat16 else ""))
    return found[:1] if quick else found

"""A small pretrained model for tests: a tokenizer trained on the spot and random weights, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIZES: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256},
}
END = "<|endoftext|>"
WORDS = ("Where was Ann Bell born?", "What is the work of Tom Reed?", "She lives in Rome.", "It is a bell.")


def write_tokenizer(folder: Path, end: str | None = END, vocab_size: int = 300, **keys: Any) -> Any:
    """A byte-level tokenizer of pairs in a folder; returns it."""
    import tokenizers
    import transformers

    pairs = tokenizers.Tokenizer(tokenizers.models.BPE())
    pairs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs.train_from_iterator(WORDS, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=pairs, eos_token=end, **keys)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_model(folder: Path, architecture: str = "llama", **sizes: Any) -> Path:
    """A random model with its tokenizer in a folder; returns it."""
    import transformers

    n_tokens = len(write_tokenizer(folder))
    keys = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": None, "initializer_range": 0.1}
    shape = transformers.AutoConfig.for_model(
        architecture, **{"vocab_size": n_tokens, **keys, **SIZES[architecture], **sizes}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    return folder


def write_text(path: Path, n_documents: int = 200) -> Path:
    """Lines of text; returns the file."""
    lines = (f"{WORDS[n % 4]} It is number {n} of {n_documents}, {WORDS[n % 3]}" for n in range(n_documents))
    path.write_text("\n".join(lines) + "\n")
    return path

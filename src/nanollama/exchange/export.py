"""A run of ours as a folder that ``AutoModelForCausalLM.from_pretrained`` loads, without code of its own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from nanollama.config import dump_config
from nanollama.errors import UserError
from nanollama.exchange.architectures import Architecture, of_ours
from nanollama.exchange.card import CARD_FILE, write_card
from nanollama.exchange.folders import written_aside
from nanollama.exchange.keys import CONFIG_FILE
from nanollama.exchange.runs import open_trained
from nanollama.exchange.tokenizers import (
    SETTINGS_FILE,
    TOKENIZER_FILE,
    as_tokenizers,
    end_token,
    padding_token,
    save_tokenizer,
)
from nanollama.exchange.weights import Weight, to_theirs
from nanollama.model.config import ModelConfig
from nanollama.model.hugging_face import HuggingFaceModel
from nanollama.model.shell import Shell
from nanollama.tokenizer import ByteTokenizer
from nanollama.training.trained import Trained

WEIGHTS_FILE, GENERATION_FILE, RUN_FILE = "model.safetensors", "generation_config.json", "nanollama.yaml"
"""``nanollama.yaml`` is the config of the run: with it, the folder can be imported into the run's study."""
WRITTEN = (CONFIG_FILE, WEIGHTS_FILE, GENERATION_FILE, RUN_FILE, CARD_FILE, TOKENIZER_FILE, SETTINGS_FILE)
OF_TOKENIZERS = (
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
"""What tokenizers of pretrained models may bring beside theirs."""
ANY_WRITTEN = re.compile(
    rf"{'|'.join(map(re.escape, (*WRITTEN, *OF_TOKENIZERS)))}"
    r"|model-\d+-of-\d+\.safetensors|model\.safetensors\.index\.json"
)
"""Those of large models, too, whose weights transformers spreads over several files."""
HEAD = "head.weight"
"""The output embeddings, ``lm_head.weight`` in all architectures."""


def export_hf(run: Path, folder: Path, overwrite: bool = False) -> str:
    """Write the model of a run, its tokenizer and a model card into a folder; what was written, in words.

    Args:
        run: folder of a run, whose newest checkpoint is taken, or of one of its checkpoints.
        folder: complete or not there, whenever this ends; a link to one is refused.
        overwrite: replace what an earlier export wrote there.

    Raises:
        UserError: there is no such run, its model is none that Hugging Face knows, or the folder is taken.
    """
    with written_aside(folder, ANY_WRITTEN, overwrite) as new:
        trained, tokenizer = open_trained(run)
        title = write_model(trained, tokenizer, new, str(run))
        if tokenizer is not None:
            save_tokenizer(tokenizer, new, trained.model.max_seq_len)
        has_dialogs = isinstance(tokenizer, ByteTokenizer)
        write_card(trained, new, title, has_tokenizer=tokenizer is not None, has_dialogs=has_dialogs)
        (new / RUN_FILE).write_text(dump_config(trained.config), encoding="utf-8")
    kind = "without a tokenizer, for its tokens are numbers" if tokenizer is None else "with its tokenizer"
    return f"wrote {folder}: {title} of step {trained.step}, {kind}."


def write_model(trained: Trained[Any], tokenizer: Any, folder: Path, where: str) -> str:
    """Write config and weights; what kind of model it is.

    Raises:
        UserError: none that Hugging Face knows.
    """
    model, special = trained.model, _special_ids(tokenizer)
    if isinstance(model, HuggingFaceModel):
        theirs = model.merged()
        theirs.save_pretrained(folder)
        return str(type(theirs).__name__)
    if not isinstance(model, Shell):
        raise UserError(
            f"{where} cannot be exported: its model is a {type(model).__name__}, not one of ours."
        )
    architecture = of_ours(model.config, where)
    _write_json(folder / CONFIG_FILE, config_keys(architecture, model.config, model.is_tied) | special)
    _write_json(folder / GENERATION_FILE, special)
    from safetensors.torch import save_file

    table = weight_table(architecture, model.config, model.is_tied)
    save_file(to_theirs(table, model.state_dict()), folder / WEIGHTS_FILE, metadata={"format": "pt"})
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)  # safetensors lets nobody else read
    return architecture.title


def config_keys(architecture: Architecture, config: ModelConfig, is_tied: bool) -> dict[str, Any]:
    """What ``config.json`` says of a model's shape."""
    return {
        "architectures": [architecture.model_class],
        "model_type": architecture.model_types[0],
        "vocab_size": config.vocab_size,
        **architecture.write(config),
        "tie_word_embeddings": is_tied,
        "torch_dtype": "float32",
    }


def weight_table(architecture: Architecture, config: ModelConfig, is_tied: bool) -> list[Weight]:
    """All parameters, theirs and ours."""
    head = [] if is_tied else [Weight(HEAD, {"lm_head.weight": config.vocab_size})]
    return [*architecture.weights(config), *head]


def _special_ids(tokenizer: Any) -> dict[str, int | None]:
    """Ids that end and pad; where there are none, transformers is told so, which has others by default."""
    found: dict[str, int | None] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    if tokenizer is not None:
        there = as_tokenizers(tokenizer)
        for key, token in (
            ("eos_token_id", end_token(tokenizer)),
            ("pad_token_id", padding_token(tokenizer)),
        ):
            found[key] = None if token is None else int(there.token_to_id(token))
    return found


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

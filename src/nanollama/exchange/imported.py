"""A Hugging Face folder as a run of ours, whose model is one of ours with their weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from nanollama.config import load_config
from nanollama.data.text.tokens import package
from nanollama.errors import MissingExtraError, UserError
from nanollama.exchange.architectures import Architecture, of_theirs
from nanollama.exchange.export import HEAD, WEIGHTS_FILE, weight_table
from nanollama.exchange.keys import Keys, read_keys
from nanollama.exchange.runs import IMPORTED
from nanollama.exchange.tokenizers import TOKENIZER_FILE
from nanollama.exchange.weights import names, to_ours
from nanollama.model import model_class
from nanollama.model.config import ModelConfig
from nanollama.model.shell import Shell
from nanollama.monitor.checkpoint import NoOptimizer, fingerprint
from nanollama.monitor.files import write_atomically
from nanollama.monitor.run_folder import open_run, read_result
from nanollama.monitor.successor import TOKENIZER, holds_run
from nanollama.studies import find_study, study_of
from nanollama.training.config import TrainingConfig
from nanollama.training.run_config import TrainingRunConfig
from nanollama.wording import show

INDEX_FILE = f"{WEIGHTS_FILE}.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def import_hf(folder: Path, run: Path, argv: Sequence[str] = (), overwrite: bool = False) -> str:
    """Make a finished run of a saved model; what was made, in words.

    Args:
        folder: holds ``config.json`` and safetensors, perhaps a ``tokenizer.json``; nothing is unpickled.
        run: folder of the run, which has a checkpoint of step 0.
        argv: ``CONFIG [key=value ...]`` of the study that the run shall belong to, with this model instead of
            its own; nothing: it belongs to none.
        overwrite: start anew where there is a run.

    Raises:
        UserError: it is no model that ours can be, or the run's folder is taken, or holds what no run wrote.
    """
    keys = read_keys(folder)
    if run.resolve() == folder.resolve():
        raise UserError(f"{run} is the folder of the model itself: name another one for the run.")
    _check_folder(run)
    architecture = of_theirs(keys)
    section, is_tied = model_section(architecture, keys)
    state = read_weights(folder, architecture)
    if section.n_layers > len(state):  # to list the weights of 10,000 layers takes seconds
        raise UserError(
            f"{keys.path} has {section.n_layers:,} layers, more than there are tensors ({len(state):,}): "
            "save the model anew, with its own config."
        )
    tokenizer = _read_tokenizer(folder / TOKENIZER_FILE, section.vocab_size)
    model = _fill(architecture, section, is_tied, state, folder)
    config = _config(section, run, argv)
    if read_result(run) is not None and not overwrite:
        raise UserError(f"{run} holds a run that has ended: name another folder, or add --overwrite.")
    with open_run(config, run, device="cpu", overwrite=overwrite) as opened:
        sources = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")]
        opened.record_data({path.name: fingerprint(path)["sha256"] for path in sources})
        (run / TOKENIZER).unlink(missing_ok=True)
        if tokenizer is not None:
            write_atomically(run / TOKENIZER, tokenizer)
        opened.checkpoints.save(0, model, NoOptimizer(), {})
        opened.finish("finished", 0, 0.0, model.n_params())
    kind = "with its tokenizer" if tokenizer else f"without a tokenizer: there is no {TOKENIZER_FILE}"
    what = f"a {architecture.title} of {model.n_params():,} parameters"
    return f"wrote {run}: a run of step 0 with {what}, {kind}."


def _check_folder(run: Path) -> None:
    """A run is made in a folder that is new, empty but for hidden files, or that of a run."""
    there = sorted(path.name for path in run.iterdir()) if run.is_dir() else []
    others = [name for name in there if not name.startswith(".")]
    if others and not holds_run(run):
        raise UserError(f"{run} holds {others[0]} and no run: name another folder for the run.")


def _read_tokenizer(path: Path, vocab_size: int) -> str | None:
    """The text of a tokenizer that loads and has no more tokens than the model; None where there is none."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        n_tokens = package().Tokenizer.from_str(text).get_vocab_size()
    except MissingExtraError:
        raise
    except Exception as error:  # its own are of no narrower class
        raise UserError(
            f"{path} is no tokenizer ({show(str(error))}): save it anew, or move it away."
        ) from error
    if n_tokens > vocab_size:
        raise UserError(f"{path} has {n_tokens:,} tokens, the model {vocab_size:,}: it is another model's.")
    return text


def model_section(architecture: Architecture, keys: Keys) -> tuple[ModelConfig, bool]:
    """The config of our model, and whether its embeddings are tied.

    Raises:
        UserError: there is no such model of ours; the key is named.
    """
    is_tied = keys.get("tie_word_embeddings", bool, architecture.tied)
    values = {"vocab_size": keys.get("vocab_size", int), "tied_embeddings": is_tied}
    try:
        return ModelConfig.model_validate({**values, **architecture.read(keys)}), is_tied
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{keys.path} gives no model of ours: {where} {problem['msg']}.") from None


def read_weights(folder: Path, architecture: Architecture) -> dict[str, Tensor]:
    """Tensors of a folder's safetensors, by the names that transformers gives them.

    Raises:
        UserError: there are none, or a file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            state |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path} cannot be read as safetensors: {show(str(error))}; save it anew."
            ) from error
    state = {name: one for name, one in state.items() if not name.endswith(architecture.derived or "\0")}
    has_prefix = any(name.startswith(architecture.prefix) for name in state)
    if has_prefix:
        return state
    return {
        name if name.startswith("lm_head") else architecture.prefix + name: one for name, one in state.items()
    }


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    index = folder / INDEX_FILE
    if index.is_file():
        try:
            listed = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            paths = [folder / name for name in listed if re.fullmatch(r"[\w.-]+\.safetensors", name)]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is no list of files of weights: save the model anew.") from error
        if len(paths) != len(listed):
            raise UserError(f"{index} names what is no safetensors file of its folder: save the model anew.")
        return paths
    pickled = [name for name in PICKLES if (folder / name).is_file()]
    why = f"; {pickled[0]} is a pickle, which could run any code and is not read" if pickled else ""
    raise UserError(
        f"The folder {folder} holds no {WEIGHTS_FILE}{why}: save the model by `save_pretrained`, which "
        "writes safetensors."
    )


def _fill(
    architecture: Architecture,
    config: ModelConfig,
    is_tied: bool,
    state: Mapping[str, Tensor],
    folder: Path,
) -> Shell:
    """Our model with their weights; every one of them has to have a place."""
    table = weight_table(architecture, config, is_tied)
    known = set(names(table))
    unknown = sorted(state.keys() - known - {"lm_head.weight"})
    missing = sorted(known - state.keys())
    for problem, found in (("lacks", missing), ("holds, beside what a model of its config has,", unknown)):
        if found:
            raise UserError(f"{folder} {problem} {found[0]}: save the model anew, with its own config.")
    misfit = f"The weights of {folder} do not fit its config.json"
    try:
        ours = to_ours(table, state)
    except (RuntimeError, IndexError) as error:
        raise UserError(f"{misfit}: {str(error).splitlines()[0].rstrip('.')}.") from error
    first, second = ours["embedding.weight"], state.get("lm_head.weight")
    if is_tied and second is not None and not torch.equal(first, second.float()):
        raise UserError(
            f"{folder} holds two different embeddings, and tie_word_embeddings = true: set it to false in "
            "config.json, or leave lm_head.weight out."
        )
    model = model_class(config)(config)
    assert isinstance(model, Shell)
    model.init_weights(torch.Generator().manual_seed(0))  # what is no parameter: tables of positions
    try:
        model.load_state_dict({**ours, HEAD: ours[HEAD] if not is_tied else first}, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip(" .\t")
        raise UserError(f"{misfit}: {reason}.") from error
    return model.eval()


def _config(model: ModelConfig, run: Path, argv: Sequence[str]) -> TrainingRunConfig:
    """The config of the run."""
    if not argv:
        name = run.name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", run.name) else IMPORTED
        return TrainingRunConfig(
            study=IMPORTED, name=name, run_dir=run, model=model, training=TrainingConfig(n_steps=1)
        )
    study = find_study(study_of(argv))
    section = json.dumps(model.model_dump(mode="json"))
    config = load_config(study.configs["train"], [*argv, f"model={section}"])
    assert isinstance(config, TrainingRunConfig)
    if config.interventions:
        raise UserError(
            f"{argv[0]} has interventions, which this model has not been through: add 'interventions=[]'."
        )
    return config.model_copy(update={"run_dir": run, "overwrite": False})

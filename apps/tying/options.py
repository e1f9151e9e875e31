"""The options of an earlier program, as a config of this study; ``make data/model/final.pt`` uses them.

``python -m apps.tying.train --dir data/model --epochs 1 ...`` builds a config on ``config/published.yaml``
and trains it in a folder ``runs/<name>`` of its directory, which then holds

- ``train.jsonl``, ``valid.jsonl``, ``test.jsonl``: rows of training, of evaluations on the way, of the test;
- ``state.json``: the run, its step and its status;
- ``final.pt``: weights, shape and step, for ``torch.load(path, weights_only=True)``.

The same options go on where they were stopped, and find it finished once it is. With ``--restore`` a run goes
on from the weights and the optimizer of another, tied or untied as ``--arch tied`` then says, and with the
batch that comes next there: with another batch size or number of examples this is not the first of a pass.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from apps.tying import train
from apps.tying.data import check_unlearned, learned_rows, read_text
from apps.tying.eval import examine
from apps.tying.settings import MeasuresConfig, TyingConfig
from nanollama.config import first_difference, load_config
from nanollama.data.text.tokenised import TOKENIZER
from nanollama.entrypoint import Parser, guard
from nanollama.errors import UserError
from nanollama.monitor.files import write_atomically
from nanollama.monitor.run_folder import CONFIG as RUN_CONFIG
from nanollama.monitor.run_folder import EVALS, METRICS, RESULT
from nanollama.training.optim import OptimizerConfig
from nanollama.training.trained import Trained, load_run
from nanollama.wording import show, suggest

CONFIG = Path(__file__).parent / "config" / "published.yaml"
FINAL, STATE = "final.pt", "state.json"
ARCH = {"tied": "model.tied_embeddings"}
OPTI = {"name": "training.optimizer.implementation", "lr": "training.optimizer.learning_rate"}
DATA = {
    "size": "n_rows",
    "files": "text.files",
    "name": "text.dataset",
    "subset": "text.subset",
    "column": "text.column",
    "tokenizer": "text.tokenizer",
    "seq_len": "text.seq_len",
    "held_out": "text.held_out",
    "rate": "masking.rate",
    "dynamic": "masking.dynamic",
}


def are_options(arguments: Sequence[str]) -> bool:
    """Are these options, and not a config with its keys?"""
    known = {option for action in _parser()._actions for option in action.option_strings} - {"--help", "-h"}
    return any(argument.partition("=")[0] in known for argument in arguments)


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    return guard(lambda: _run(argv))


def _run(argv: Sequence[str]) -> None:
    options = _parser().parse_args(argv)
    folder: Path = options.dir
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--dir {folder}: is a file; expected a folder, which is made where there is none.")
    config = _finished(options) or build(options)
    try:
        train.run(config)
    finally:
        _copy_rows(config, folder)
    trained = load_run(TyingConfig, config.folder)
    measures = MeasuresConfig(split="test", n_rows=None, batch_size=options.test_batch_size)
    row = {"step": trained.step, **examine(trained, measures)}
    write_atomically(folder / "test.jsonl", json.dumps(row) + "\n")
    save_final(trained, folder / FINAL, _told(options))
    print(f"wrote {folder / FINAL}: test loss {row['loss_nats']:.4f} nats, accuracy {row['accuracy']:.4f}")


def build(options: argparse.Namespace) -> TyingConfig:
    """The config that options mean.

    Raises:
        UserError: they do not go together, or name what is not there.
    """
    keys = [
        f"training.seed={options.seed}",
        f"training.batch_size={options.train_batch_size}",
        f"training.device={options.device}",
        f"training.compile={str(options.compiler != 'none').lower()}",
        f"measures.batch_size={options.valid_batch_size}",
        *_pairs("--arch", options.arch, ARCH, "model."),
        *_optimizer(options.opti),
        *_pairs("--data", options.data, DATA, None),
    ]
    if any(key.startswith("text.dataset=") for key in keys):
        keys.append("text.files=[]")
    keys += _vocabulary(keys)
    one_step = ["training.n_steps=1", "training.eval_every=1"]
    plain = load_config(TyingConfig, [str(CONFIG), *keys, *one_step])
    restored = None if options.restore is None else _restore(options.restore)
    if restored is not None:
        is_asked = any(key.startswith(f"{ARCH['tied']}=") for key in keys)
        tied = plain.model.tied_embeddings if is_asked else bool(restored.model.is_tied)
        keys += _go_on(restored, tied, options.ioemb_copy)
    elif options.ioemb_copy is not None:
        raise UserError(
            "--ioemb-copy says where the output embeddings of a restored model come from: give --restore too."
        )
    text = read_text(plain)
    per_epoch = -(-len(learned_rows(plain, text)) // plain.training.batch_size)
    keys += [
        f"training.n_steps={options.epochs * per_epoch}",
        f"training.eval_every={options.etv * per_epoch}",
        f"training.checkpoint.every={options.etc * per_epoch}",
    ]
    name = "r" + hashlib.sha256("\n".join(keys).encode()).hexdigest()[:12]  # digits alone would be a number
    config = load_config(
        TyingConfig, [str(CONFIG), *keys, f"name={name}", f"run_dir={options.dir / 'runs' / name}"]
    )
    if restored is not None:
        _check_same(restored, config)
    return config


def save_final(trained: Trained[TyingConfig], path: Path, told: str) -> None:
    """Write weights, shape, step and the options told: tensors and plain values alone."""
    content = {
        "model": trained.model.state_dict(),
        "arch": trained.config.model.model_dump(mode="json"),
        "tied": trained.model.is_tied,
        "step": trained.step,
        "checkpoint": os.path.relpath(trained.checkpoint, path.parent),
        "options": told,
    }
    torch.save(content, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _copy_rows(config: TyingConfig, folder: Path) -> None:
    """Show what there is of a run in its directory."""
    result = config.folder / RESULT
    state: dict[str, Any] = {"status": "stopped"}
    if result.is_file():
        state = {key: json.loads(result.read_text(encoding="utf-8")).get(key) for key in ("status", "step")}
    for source, name in ((METRICS, "train.jsonl"), (EVALS, "valid.jsonl")):
        if (config.folder / source).is_file():
            shutil.copyfile(config.folder / source, folder / name)
    if config.folder.is_dir():
        state["run"] = os.path.relpath(config.folder, folder)
        write_atomically(folder / STATE, json.dumps(state, indent=2) + "\n")


def _pairs(option: str, words: Sequence[str], names: Mapping[str, str], prefix: str | None) -> list[str]:
    """``name value name value`` as keys of the config."""
    if len(words) % 2:
        raise UserError(f"{option} takes names and values in turns, got {show(' '.join(words))}.")
    keys = []
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name not in names and prefix is None:
            raise UserError(
                f"{option} has no {show(name)}{suggest(name, names) or ': it has ' + ', '.join(names)}."
            )
        if name == "files":
            value = f"[{value}]"
        elif name == "tokenizer":
            value = json.dumps({"implementation": "hugging_face", "path": value})
        keys.append(f"{names.get(name, f'{prefix}{name}')}={value}")
    return keys


def _optimizer(words: Sequence[str]) -> list[str]:
    """Keys of the optimizer; one that is not AdamW has the defaults of what belongs to that alone."""
    keys = _pairs("--opti", words, OPTI, "training.optimizer.")
    if not any(key.startswith(f"{OPTI['name']}=") and not key.endswith("=adamw") for key in keys):
        return keys
    plain = OptimizerConfig().model_dump(mode="json")
    return [*(f"training.optimizer.{name}={json.dumps(plain[name])}" for name in ("betas", "eps")), *keys]


def _vocabulary(keys: Sequence[str]) -> list[str]:
    """A WordPiece has as many pieces as the model."""
    if any(key.startswith("text.tokenizer=") for key in keys):
        return []
    sizes = [key.partition("=")[2] for key in keys if key.startswith("model.vocab_size=")]
    return [f"text.tokenizer.vocab_size={size}" for size in sizes[-1:]]


def _told(options: argparse.Namespace) -> str:
    return json.dumps(vars(options), sort_keys=True, default=str)


def _finished(options: argparse.Namespace) -> TyingConfig | None:
    """The config of the run that the same options have restored and replaced by itself, if they have."""
    path: Path | None = options.restore
    if path is None or not path.is_file() or path.resolve() != (options.dir / FINAL).resolve():
        return None
    restored = _restore(path)
    if torch.load(path, map_location="cpu", weights_only=True).get("options") != _told(options):
        return None
    return load_config(TyingConfig, [str(restored.folder / RUN_CONFIG), f"run_dir={restored.folder}"])


def _restore(path: Path) -> Trained[TyingConfig]:
    """The model of a ``final.pt``, or of a run folder."""
    if not path.exists():
        raise UserError(f"--restore: there is no {path}; expected a {FINAL}, or the folder of a run.")
    if path.is_dir():
        return load_run(TyingConfig, path, ["training.device=cpu"])
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = path.parent / content["checkpoint"]
    except Exception as error:  # of a file that is something else
        raise UserError(f"--restore: {path} is not a {FINAL} of this study.") from error
    return load_run(TyingConfig, Path(os.path.normpath(checkpoint)), ["training.device=cpu"])


def _go_on(restored: Trained[TyingConfig], tied: bool, ioemb_copy: bool | None) -> list[str]:
    """Keys of a run that begins where another ended, with embeddings that are tied from then on, or not."""
    was_tied = restored.model.is_tied
    interventions: list[dict[str, Any]] = [
        {"implementation": "load", "run": str(restored.checkpoint), "optimizer": True}
    ]
    if was_tied and not tied:
        interventions.append({"implementation": "untie"})
        if ioemb_copy is False:
            interventions.append({"implementation": "reinitialize", "parameters": ["head.*"]})
    elif ioemb_copy is not None:
        raise UserError(
            "--ioemb-copy says where new output embeddings come from, and none are made: the restored model "
            f"is {'tied' if was_tied else 'untied'}, and --arch tied says {tied}."
        )
    elif tied and not was_tied:
        interventions.append({"implementation": "tie"})
    return [
        f"model.tied_embeddings={str(was_tied).lower()}",
        f"interventions={json.dumps(interventions)}",
        f"first_step={restored.config.first_step + restored.step}",
    ]


def _check_same(restored: Trained[TyingConfig], config: TyingConfig) -> None:
    """Refuse to go on with another architecture or other tokens, or to test on what has been learned."""
    there = restored.config.model.model_copy(update={"tied_embeddings": config.model.tied_embeddings})
    difference = first_difference(there, config.model)
    if difference is not None:
        raise UserError(f"--restore: {restored.folder} has another architecture: model.{difference}.")
    check_unlearned(config)
    files = [read_text(one).folder / TOKENIZER for one in (restored.config, config)]
    if files[0].read_bytes() != files[1].read_bytes():
        raise UserError(f"--restore: {restored.folder} has learned other tokens than those of this text.")


def _parser() -> argparse.ArgumentParser:
    program = "python -m apps.tying.train"
    hint = f"; `{program} --help-options` lists the options."
    parser = Parser(program, hint=hint, add_help=False)
    parser.add_argument("--help-options", action="help", help="show these options")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    for name, size in (("train", 128), ("valid", 64), ("test", 64)):
        parser.add_argument(f"--{name}-batch-size", type=_count, default=size, help="examples at once")
    parser.add_argument(
        "--epochs",
        type=_count,
        default=1,
        help="passes over the examples; of a restored model as many batches, which may begin within a pass",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto")
    parser.add_argument("--compiler", choices=("none", "inductor"), default="none", help="of torch")
    parser.add_argument("--dir", type=Path, default=Path("data/model"), help="where everything goes")
    parser.add_argument("--etc", type=_count, default=1, help="epochs between checkpoints")
    parser.add_argument("--etv", type=_count, default=1, help="epochs between evaluations")
    parser.add_argument("--restore", type=Path, help="a final.pt, or the folder of a run, to go on from")
    parser.add_argument(
        "--ioemb-copy", type=_truth, help="untied now: are output embeddings copies of the input?"
    )
    for name, about in (
        ("arch", "keys of the model: tied True d_model 64"),
        ("opti", "keys of the optimizer: lr 1e-4"),
        ("data", f"of the text: {', '.join(DATA)}"),
    ):
        parser.add_argument(f"--{name}", nargs="*", action="extend", default=[], help=about)
    return parser


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number >= 1, got {text}")
    return number


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return text.lower() == "true"

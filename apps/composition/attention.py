"""The attention page of a run: ``nanollama report attention RUN [length=L] [training.device=D]``.

The model computes where the run says, or on the device that is given. Writes the explorer,
``attention.html``, into the run folder, and pictures for papers as SVG, PDF and PNG into ``attention/``: the
maps of each head, averaged over test sequences and on one of them, the same maps at checkpoints spread over
training (``training.checkpoint.keep: null`` keeps all), side by side, and the scores of each head.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from apps.composition.data import build_dataset
from apps.composition.exhibits import exhibits
from apps.composition.figures import plot_maps, role_labels, token_labels
from apps.composition.measures import Group, build_groups, measure, predict
from apps.composition.settings import CompositionConfig, MeasuresConfig
from nanollama.entrypoint import guard
from nanollama.errors import UserError
from nanollama.model.probe import attention_heads, recorded_maps
from nanollama.model.protocol import LanguageModel
from nanollama.monitor.checkpoint import FOLDER, Checkpointer
from nanollama.report.attention import DEVICE_KEY
from nanollama.report.attention.command import explore, is_intact, refuse_checkpoint
from nanollama.report.attention.extent import spread
from nanollama.report.command import save_parts
from nanollama.report.page import Film, Picture, Section, Words
from nanollama.report.tables import Table
from nanollama.training.trained import load_run

N_SEQUENCES = 128
N_FRAMES = 8
USAGE = "usage: nanollama report attention RUN [length=L] [training.device=D]"


def run(folder: Path, length: int | None, keys: Sequence[str] = ()) -> None:
    """Write the explorer and the pictures of a run.

    Args:
        folder: of the run.
        length: inputs of the sequences that are shown; None: the longest, and on the page shorter ones too.
        keys: for `nanollama.training.trained.load_run`.

    Raises:
        UserError: there is no such run, a checkpoint of it is named, or it has no test sequences of this
            length.
    """
    refuse_checkpoint(folder, USAGE)
    trained = load_run(CompositionConfig, folder, keys)
    config, model = trained.config, trained.model
    print(f"wrote {explore(folder, keys, exhibits(config, length))}", flush=True)  # pictures take longer
    if not attention_heads(model):
        return
    group = choose_group(config, config.data.max_length if length is None else length)
    sections = [
        Section("Attention", (*head_pictures(config, model, group), scores_table(config, model, group))),
        Section("Over training", film(config, folder, group, keys)),
    ]
    save_parts(folder / "attention", sections)
    print(f"wrote {folder / 'attention'}")


def choose_group(config: CompositionConfig, length: int) -> Group:
    """Test sequences of the first task.

    Raises:
        UserError: there are none of this length.
    """
    measures = MeasuresConfig(n_sequences=N_SEQUENCES, splits=("test",))
    groups = [group for group in build_groups(config.data, build_dataset(config.data), measures)]
    lengths = [group.length for group in groups if group.task == 0]
    if length not in lengths:
        raise UserError(
            f"The run has no test sequences of length {length}: "
            f"expected one of {', '.join(map(str, lengths))}."
        )
    return next(group for group in groups if (group.task, group.length) == (0, length))


@torch.no_grad()
def maps_of(model: LanguageModel, group: Group) -> dict[int, torch.Tensor]:
    """Attention maps (B, H, T, T) of every layer that attends."""
    with recorded_maps(model) as maps:
        predict(model, group)
    return {layer: of_layer.cpu() for layer, of_layer in maps.items()}


def head_pictures(config: CompositionConfig, model: LanguageModel, group: Group) -> tuple[Picture, ...]:
    """Every head, a row a layer: averaged over sequences, and on the first of them."""
    maps = maps_of(model, group)
    tokens = group.tokens[0, :-1].tolist()
    n_outputs = len(tokens) - group.length - 2
    pictures = []
    for name, labels, chosen, caption in (
        (
            "mean",
            role_labels(group.length, n_outputs),
            {layer: m.mean(dim=0) for layer, m in maps.items()},
            "averaged over sequences",
        ),
        (
            "example",
            token_labels(tokens, config.data),
            {layer: m[0] for layer, m in maps.items()},
            "on one test sequence",
        ),
    ):
        panels = [
            [(f"layer {i} head {j}", head.numpy()) for j, head in enumerate(layer)]
            for i, layer in chosen.items()
        ]
        strongest = ", ".join(
            f"layer {i} head {j} {float(head[group.length + 1 :].amax(dim=-1).mean()):.2f}"
            for i, layer in chosen.items()
            for j, head in enumerate(layer)
        )
        pictures.append(
            Picture(
                f"attention_{name}",
                plot_maps(panels, labels),
                f"Attention {caption}: a row is a query, a column the key it attends to.",
                f"Mean of the largest attention of queries from the end of input on: {strongest}.",
            )
        )
    return tuple(pictures)


def scores_table(config: CompositionConfig, model: LanguageModel, group: Group) -> Table | Words:
    """The scores of every head on these sequences."""
    rows = [row for row in measure(model, config.data, [group]) if row.head is not None]
    if not rows:
        return Words("Heads have no scores where only the last state is put out.")
    names = list(dict.fromkeys(row.measure for row in rows))
    found = {(row.layer, row.head, row.measure): row.value for row in rows}
    heads = list(dict.fromkeys((row.layer, row.head) for row in rows))
    return Table(
        caption=f"Scores of each head on these sequences of {group.length} inputs.",
        columns=("head", *names),
        rows=tuple(
            (f"layer {layer} head {head}", *(f"{found[layer, head, name]:.3f}" for name in names))
            for layer, head in heads
        ),
    )


def film(
    config: CompositionConfig, folder: Path, group: Group, keys: Sequence[str]
) -> tuple[Film | Picture | Words, ...]:
    """The averaged maps at intact checkpoints spread over training: side by side, and one by one."""
    checkpoints = Checkpointer(folder / FOLDER)
    steps = [step for step in checkpoints.steps() if is_intact(checkpoints, step)]
    if len(steps) < 2:
        return (Words("Only one intact checkpoint was kept; training.checkpoint.keep=null keeps all."),)
    chosen = spread(steps, N_FRAMES)
    labels = role_labels(group.length, group.tokens.shape[1] - group.length - 3)
    panels = {}
    for step in chosen:
        maps = maps_of(load_run(CompositionConfig, checkpoints.path(step), keys).model, group)
        panels[step] = [
            [(f"layer {i} head {j}", head.numpy()) for j, head in enumerate(layer.mean(dim=0))]
            for i, layer in maps.items()
        ]
    frames = []
    for step, rows in panels.items():
        caption = f"Attention averaged over sequences after {step:,} steps."
        picture = Picture(f"attention_step_{step:08d}", plot_maps(rows, labels), caption, caption)
        frames.append((f"{step:,}", picture))
    return (growth(panels, labels), Film("optimizer steps", tuple(frames)))


def growth(panels: Mapping[int, Sequence[Sequence[tuple[str, np.ndarray]]]], labels: list[str]) -> Picture:
    """Every head, a row a head, from step to step: ``panels[step]`` is rows of (title, map)."""
    heads = [[head for row in rows for head in row] for rows in panels.values()]
    rows = [
        [(f"{title}, step {step:,}", values) for step, (title, values) in zip(panels, of_head, strict=True)]
        for of_head in zip(*heads, strict=True)
    ]
    caption = "Attention averaged over sequences, a row a head, a column a checkpoint."
    alt = f"Attention maps of {len(rows)} heads at {len(panels)} checkpoints: {', '.join(map(str, panels))}."
    return Picture("attention_growth", plot_maps(rows, labels), caption, alt)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def work() -> None:
        if not arguments:
            raise UserError(USAGE)
        keys = [argument for argument in arguments[1:] if argument.startswith(DEVICE_KEY)]
        length = None
        for argument in arguments[1:]:
            key, _, value = argument.partition("=")
            if argument not in keys and (key != "length" or not value.isdecimal()):
                raise UserError(f"{argument}: expected length=L with a number L; {USAGE}")
            length = length if argument in keys else int(value)
        run(Path(arguments[0]), length, keys)

    return guard(work)


if __name__ == "__main__":
    sys.exit(main())

"""What a trained model has made of a source: by position, its picture of the latents, and after switches.

*Recovery* of a latent: a linear map is fitted from a layer's stream to the exact posterior of the latent
given the symbols so far, on one half of the sequences, and judged on the other by the share of the
posterior's variance that it explains. The same from the last symbol alone says what needs no memory.

*Adaptation*: positions are grouped by the steps since a slow node last moved; right after, what was known of
it misleads, for the exact floor as for the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from apps.gssm.examiner import Losses, TestSet
from apps.gssm.floor import Floor
from apps.gssm.source import Source
from apps.gssm.tables import CONTEXT
from nanollama.model.probe import recorded_outputs
from nanollama.model.protocol import LanguageModel
from nanollama.statistics import mean_interval

MAX_AGE = 16
"""Steps since a switch that are told one by one."""
RIDGE = 1e-3
"""Penalty on squared weights, as a share of the mean variance of what is read from."""
STILL = 1e-12
"""Variance of a posterior below which it does not vary: what is left are roundings."""

Row = dict[str, Any]


def position_rows(losses: Losses, test: TestSet) -> list[Row]:
    """A row a position: loss, and where they are known floor, gap and divergence with their intervals."""
    rows = []
    for position in range(losses.loss.shape[1]):
        row: Row = {"position": position, "loss_nats": float(losses.loss[:, position].mean())}
        if test.floor_nats is not None and losses.kl is not None:
            row["floor_nats"] = float(test.floor_nats[:, position].mean())
            gap = losses.loss[:, position] - test.floor_nats[:, position]
            row |= _interval("gap_nats", gap) | _interval("kl_nats", losses.kl[:, position])
        rows.append(row)
    return rows


@torch.no_grad()
def latent_rows(model: LanguageModel, source: Source, test: TestSet) -> Iterator[Row]:
    """A row a latent and place in the model: how much of the latent's exact posterior can be read there."""
    inputs = test.symbols[:, :-1]
    posteriors = Floor(source.kernels).exact(inputs, posteriors=True).posteriors
    assert posteriors is not None
    names = [name for name, _ in model.named_modules() if name.startswith("blocks.") and name.count(".") == 1]
    with recorded_outputs(model, names) as outputs:
        model(torch.from_numpy(inputs).to(model.device))
    symbol = np.eye(source.graph.vocab_size)[inputs]
    places = {"last symbol": symbol} | {name: outputs[name].double().cpu().numpy() for name in names}
    for latent, posterior in posteriors.items():
        if posterior.shape[-1] > 1:
            name = "context" if latent == CONTEXT else latent
            for place, activations in places.items():
                yield {"latent": name, "place": place, "recovery": recovery(activations, posterior)}


def recovery(activations: np.ndarray, posterior: np.ndarray) -> float:
    """Share of the variance of a posterior (n, T, S) that a linear map of activations (n, T, D) explains.

    Fitted on the first half of the sequences, judged on the second; NaN where the posterior does not vary.
    """
    half = len(activations) // 2
    parts = [
        (x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
        for x, y in (
            (activations[:half], posterior[:half]),
            (activations[half:], posterior[half:]),
        )
    ]
    (x, y), (x_test, y_test) = parts
    centre, mean = x.mean(axis=0), y.mean(axis=0)
    gram = (x - centre).T @ (x - centre)
    penalty = RIDGE * max(float(gram.diagonal().mean()), 1e-12)
    weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), (x - centre).T @ (y - mean))
    missed = ((x_test - centre) @ weights + mean - y_test) ** 2
    spread = (y_test - y_test.mean(axis=0)) ** 2
    return float(1 - missed.sum() / spread.sum()) if spread.mean() > STILL else float("nan")


def switch_rows(losses: Losses, source: Source, test: TestSet) -> Iterator[Row]:
    """A row a slow node and number of steps since it moved, from 0, where symbols were drawn right after."""
    if test.floor_nats is None or losses.kl is None:
        return
    for node in source.graph.latents:
        if node.mode != "slow":
            continue
        ages = steps_since_switch(test.sample.latents[node.name])[:, 1:]
        for age in range(MAX_AGE):
            here = ages == age
            chosen = here.any(axis=1)
            if chosen.sum() < 2:
                continue
            counts = here[chosen].sum(axis=1)
            row: Row = {"node": node.name, "steps_since_switch": age, "n_positions": int(here.sum())}
            for name, values in (("floor_nats", test.floor_nats), ("kl_nats", losses.kl)):
                row |= _interval(name, (values * here)[chosen].sum(axis=1) / counts)
            yield row


def steps_since_switch(states: np.ndarray) -> np.ndarray:
    """Steps since the last change along each row (n, T); -1 before the first."""
    ages = np.full(states.shape, -1)
    for t in range(1, states.shape[1]):
        stays = states[:, t] == states[:, t - 1]
        ages[:, t] = np.where(stays, np.where(ages[:, t - 1] < 0, -1, ages[:, t - 1] + 1), 0)
    return ages


def best_recovery(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Of each latent, the layer that tells most of it, beside what the last symbol tells."""
    found = []
    for latent in dict.fromkeys(row["latent"] for row in rows):
        own = {row["place"]: row["recovery"] for row in rows if row["latent"] == latent}
        alone = own.pop("last symbol")
        best = max(own, key=lambda place: own[place], default=None)
        if best is not None:
            found.append({"latent": latent, "best": best, "recovery": own[best], "last_symbol_alone": alone})
    return found


def _interval(name: str, values: np.ndarray) -> Row:
    found = mean_interval(values.tolist())
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}

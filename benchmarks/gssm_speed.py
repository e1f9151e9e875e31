"""How fast sequences of a graph are drawn and scored: ``python -m benchmarks gssm``.

Sampling, 1,000 sequences of 257 symbols, beside NumPy loops over time: one sums up the probabilities of every
row it meets, one has them summed up before. The floor at 64 latent states and 32 symbols, 256 sequences of
257, beside hmmlearn's scaled forward pass, which is written in C. Four latents of 16 states, 8 sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from apps.gssm.floor import Floor
from apps.gssm.graph import GraphConfig
from apps.gssm.kernels import Kernels, draw_kernels
from apps.gssm.sampler import Sampler
from benchmarks.turns import Contestant, Pair, Step

SEQ_LEN = 257
VOCAB_SIZE = 32
N_SAMPLED, N_SCORED, N_LARGE = 1000, 256, 8
SAMPLED = {"one latent of 64 states": (1, 64), "four latents of 8 states": (4, 8)}
LARGE = (4, 16)
BUDGET_SECONDS = 90.0


def kernels_of(n_latents: int, state_dim: int) -> Kernels:
    """Independent latents, all seen by one node of 32 symbols."""
    latents = [{"name": f"Z{i}", "state_dim": state_dim, "alpha": 0.3} for i in range(n_latents)]
    observed = {"name": "X", "state_dim": VOCAB_SIZE, "alpha": 0.3, "observed": True}
    observed["parents"] = tuple(latent["name"] for latent in latents)
    return draw_kernels(GraphConfig.model_validate({"nodes": (*latents, observed)}), seed=0)


def our_sampler(n_latents: int, state_dim: int, n: int) -> Step:
    """Alias tables."""
    sampler = Sampler(kernels_of(n_latents, state_dim), seed=1)

    def step(number: int) -> float:
        sampler.sample(range(number * n, (number + 1) * n), SEQ_LEN)
        return n * SEQ_LEN

    return step


def plain_sampler(n_latents: int, state_dim: int, n: int, precomputed: bool) -> Step:
    """A loop over time and nodes: a row each, summed up in the loop or before it."""
    kernels = kernels_of(n_latents, state_dim)
    graph = kernels.graph
    tables = {node.name: np.exp(kernels.log_table(node))[0] for node in graph.order}
    if precomputed:
        tables = {name: table.cumsum(axis=-1) for name, table in tables.items()}

    def step(number: int) -> float:
        rng = np.random.default_rng(number)
        states = {node.name: np.zeros(n, dtype=np.int64) for node in graph.order}
        symbols = np.empty((n, SEQ_LEN), dtype=np.int64)
        for t in range(SEQ_LEN):
            for node in graph.order:
                rows = tables[node.name][tuple(states[each.name] for each in graph.inputs(node))]
                cumulative = rows if precomputed else rows.cumsum(axis=1)
                states[node.name] = (cumulative > rng.random(n)[:, None]).argmax(axis=1)
            symbols[:, t] = states["X"]
        return symbols.size

    return step


def scored(score: Callable[[], object], n: int) -> Step:
    """Steps that score so many sequences."""

    def step(number: int) -> float:
        score()
        return n * SEQ_LEN

    return step


def our_floor(n: int) -> Step:
    """Scaled forward passes, an axis at a time."""
    kernels = kernels_of(1, 64)
    symbols = Sampler(kernels, seed=1).sample(range(n), SEQ_LEN).symbols
    floor = Floor(kernels)
    return scored(lambda: floor.log_likelihood(symbols), n)


def hmmlearn_floor(n: int) -> Step:
    """The same in hmmlearn, all sequences in one call."""
    from hmmlearn.hmm import CategoricalHMM

    kernels = kernels_of(1, 64)
    symbols = Sampler(kernels, seed=1).sample(range(n), SEQ_LEN).symbols
    latent, observed = (np.exp(kernels.log_table(node))[0] for node in kernels.graph.order)
    model = CategoricalHMM(n_components=64, implementation="scaling", init_params="", params="")
    model.n_features = VOCAB_SIZE
    model.startprob_, model.transmat_, model.emissionprob_ = latent[0], latent, observed
    flat, lengths = symbols.reshape(-1, 1), [SEQ_LEN] * n
    return scored(lambda: model.score(flat, lengths), n)


def large_floor(n: int) -> Step:
    """Four latents of 16 states: 65,536 together, never multiplied out. For its time and its memory."""
    kernels = kernels_of(*LARGE)
    symbols = Sampler(kernels, seed=1).sample(range(n), SEQ_LEN).symbols
    floor = Floor(kernels)
    return scored(lambda: floor.log_likelihood(symbols), n)


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    n_sampled, n_scored = (20, 4) if quick else (N_SAMPLED, N_SCORED)
    found = []
    for name, sizes in SAMPLED.items():
        alias = Contestant("alias tables", partial(our_sampler, *sizes, n_sampled))
        for other, precomputed, aim in (("loop, sums inside", False, 5.0), ("loop, sums before", True, 2.0)):
            loop = Contestant(other, partial(plain_sampler, *sizes, n_sampled, precomputed=precomputed))
            found.append(Pair(f"sample {name}", "tokens/s", alias, loop, aim))
    own = Contestant("axis by axis", partial(our_floor, n_scored))
    hmmlearn = Contestant("hmmlearn, scaled", partial(hmmlearn_floor, n_scored))
    found.append(Pair("floor of 64 states", "tokens/s", own, hmmlearn, 5.0))
    if not quick:
        large = Contestant("four latents of 16 states", partial(large_floor, N_LARGE), n_warm=0)
        found.append(Pair("floor of 65,536 states, beside that of 64", "tokens/s", large, own))
    return found

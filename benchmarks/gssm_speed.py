"""How fast sequences of a graph are drawn and scored: ``python -m benchmarks.gssm_speed``.

Sampling, 1,000 sequences of 257 symbols, beside NumPy loops over time; aims: 5 times the loop that sums up
the probabilities of every row it meets, twice the one that has them summed up. The floor at 64 latent states
and 32 symbols, 256 sequences of 257, beside hmmlearn's scaled forward pass, which is written in C; aim: 5
times. Four latents of 16 states (65,536 together), 8 sequences: at most 512 MiB.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np

from apps.gssm.floor import Floor
from apps.gssm.graph import GraphConfig
from apps.gssm.kernels import Kernels, draw_kernels
from apps.gssm.sampler import Sampler
from benchmarks.row import Row
from benchmarks.turns import Step, seconds_a_step

SEQ_LEN = 257
VOCAB_SIZE = 32
N_SAMPLED, N_SCORED, N_LARGE = 1000, 256, 8
SAMPLED = {"one latent of 64 states": (1, 64), "four latents of 8 states": (4, 8)}
LARGE = (4, 16)


def kernels_of(n_latents: int, state_dim: int) -> Kernels:
    """Independent latents, all seen by one node of 32 symbols."""
    latents = [{"name": f"Z{i}", "state_dim": state_dim, "alpha": 0.3} for i in range(n_latents)]
    observed = {"name": "X", "state_dim": VOCAB_SIZE, "alpha": 0.3, "observed": True}
    observed["parents"] = tuple(latent["name"] for latent in latents)
    return draw_kernels(GraphConfig.model_validate({"nodes": (*latents, observed)}), seed=0)


def our_sampler(n_latents: int, state_dim: int, n: int) -> Step:
    """Alias tables."""
    sampler = Sampler(kernels_of(n_latents, state_dim), seed=1)
    return lambda number: sampler.sample(range(number * n, (number + 1) * n), SEQ_LEN)


def plain_sampler(n_latents: int, state_dim: int, n: int, precomputed: bool) -> Step:
    """A loop over time and nodes: a row each, summed up in the loop or before it."""
    kernels = kernels_of(n_latents, state_dim)
    graph = kernels.graph
    tables = {node.name: np.exp(kernels.log_table(node))[0] for node in graph.order}
    if precomputed:
        tables = {name: table.cumsum(axis=-1) for name, table in tables.items()}

    def step(number: int) -> object:
        rng = np.random.default_rng(number)
        states = {node.name: np.zeros(n, dtype=np.int64) for node in graph.order}
        symbols = np.empty((n, SEQ_LEN), dtype=np.int64)
        for t in range(SEQ_LEN):
            for node in graph.order:
                rows = tables[node.name][tuple(states[each.name] for each in graph.inputs(node))]
                cumulative = rows if precomputed else rows.cumsum(axis=1)
                states[node.name] = (cumulative > rng.random(n)[:, None]).argmax(axis=1)
            symbols[:, t] = states["X"]
        return symbols

    return step


def our_floor(n: int) -> Step:
    """Scaled forward passes, an axis at a time."""
    kernels = kernels_of(1, 64)
    symbols = Sampler(kernels, seed=1).sample(range(n), SEQ_LEN).symbols
    floor = Floor(kernels)
    return lambda number: floor.log_likelihood(symbols)


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
    return lambda number: model.score(flat, lengths)


def large_floor_mib() -> float:
    """Peak resident memory of a process that computes the floor of four latents of 16 states, in MiB."""
    command = [sys.executable, "-m", "benchmarks.gssm_speed", "large"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rows(quick: bool = False) -> list[Row]:
    """For `make bench`."""
    n_turns = 1 if quick else 15
    n_sampled, n_scored = (20, 4) if quick else (N_SAMPLED, N_SCORED)
    found = []
    for name, sizes in SAMPLED.items():
        contestants: dict[str, Callable[[], Step]] = {
            "ours": partial(our_sampler, *sizes, n_sampled),
            "loop, sums inside": partial(plain_sampler, *sizes, n_sampled, precomputed=False),
            "loop, sums before": partial(plain_sampler, *sizes, n_sampled, precomputed=True),
        }
        seconds = seconds_a_step(contestants, n_turns=n_turns, n_steps=1, n_warm=1)
        tokens = {key: n_sampled * SEQ_LEN / value for key, value in seconds.items()}
        found += [
            Row(f"sample {name}", tokens["ours"], "tokens/s", tokens[other], other)
            for other in contestants
            if other != "ours"
        ]
    seconds = seconds_a_step(
        {"ours": partial(our_floor, n_scored), "hmmlearn": partial(hmmlearn_floor, n_scored)},
        n_turns=n_turns,
        n_steps=1,
        n_warm=1,
    )
    tokens = {key: n_scored * SEQ_LEN / value for key, value in seconds.items()}
    found.append(
        Row("floor of 64 states", tokens["ours"], "tokens/s", tokens["hmmlearn"], "hmmlearn, scaled")
    )
    if not quick:
        found.append(Row("floor of 4 latents of 16 states", large_floor_mib(), "MiB", 512.0, "aim"))
    return found


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] == ["large"]:
        kernels = kernels_of(*LARGE)
        Floor(kernels).log_likelihood(Sampler(kernels, seed=1).sample(range(N_LARGE), SEQ_LEN).symbols)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # Linux counts in KiB
        return
    for row in rows():
        print(
            f"{row.work}: {row.ours:,.0f} {row.unit}, {row.compared_with}: {row.other:,.0f}, "
            f"{row.ratio:.1f} times"
        )


if __name__ == "__main__":
    main()

"""How fast the zoo of sequence models trains: ``python -m benchmarks zoo``.

Mamba2 beside that of transformers, of the same sizes, at its default chunk and at the one that suits it best
on CPUs. The scan under the other recurrent models, forward and backward, beside loops over time. Each
model beside a transformer of as many parameters. All in float32, not compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.turns import Contestant, Pair, Step
from nanollama.model import ModelConfig, build_model
from nanollama.model.scan import linear_scan

VOCAB_SIZE, D_MODEL, N_LAYERS = 260, 64, 2
BATCH_SIZE, SEQ_LEN = 32, 256
DEFAULT_CHUNK, BEST_CHUNK = 256, 32
"""Of transformers' Mamba2; 16 and 64 are slower than 32."""
SCAN_LENGTH, SCAN_WIDTH = 512, 64
MODELS = ("mamba2", "hawk", "mingru", "minlstm")
BUDGET_SECONDS = 130.0

Scan = Callable[[Tensor, Tensor], Tensor]


def training(model: nn.Module, loss: Callable[[Tensor], Tensor], seq_len: int) -> Step:
    """Steps of AdamW on random rows of so many tokens."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)

    def step(number: int) -> float:
        optimizer.zero_grad()
        loss(torch.randint(VOCAB_SIZE, (BATCH_SIZE, seq_len), generator=generator)).backward()
        optimizer.step()
        return BATCH_SIZE * seq_len

    return step


def ours(config: ModelConfig, seq_len: int) -> Step:
    """A model of the library."""
    model = build_model(config, torch.Generator().manual_seed(0))

    def loss(ids: Tensor) -> Tensor:
        return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    return training(model, loss, seq_len)


def hugging_face(chunk_size: int, seq_len: int) -> Step:
    """Mamba2 of transformers, with our sizes and as many parameters."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    torch.manual_seed(0)  # the initial weights
    config = Mamba2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=D_MODEL,
        num_hidden_layers=N_LAYERS,
        state_size=16,
        expand=2,
        head_dim=64,
        num_heads=2,
        n_groups=1,
        chunk_size=chunk_size,
        tie_word_embeddings=False,
        use_cache=False,
    )
    model: nn.Module = Mamba2ForCausalLM(config)
    return training(model, lambda ids: model(input_ids=ids, labels=ids).loss, seq_len)


def shape(implementation: str, **keys: object) -> ModelConfig:
    """A stack of bare mixers."""
    sizes = {"vocab_size": VOCAB_SIZE, "d_model": D_MODEL, "n_layers": N_LAYERS, "max_seq_len": SEQ_LEN}
    return ModelConfig.model_validate({**sizes, "implementation": implementation, "mlp": "none", **keys})


def n_params(config: ModelConfig) -> int:
    """Number of parameters."""
    return build_model(config, torch.Generator()).n_params()


def transformer_like(config: ModelConfig) -> ModelConfig:
    """A transformer whose MLPs make up for the parameters that another model has more (within 1 %)."""
    bare = shape("transformer", n_heads=4)
    a_unit = n_params(shape("transformer", n_heads=4, mlp="swiglu", d_ff=2))
    a_unit -= n_params(shape("transformer", n_heads=4, mlp="swiglu", d_ff=1))
    d_ff = max(round((n_params(config) - n_params(bare)) / a_unit), 1)
    return shape("transformer", n_heads=4, mlp="swiglu", d_ff=d_ff)


def scanning(scan: Scan, n_rows: int, length: int) -> Step:
    """A recurrence and its gradients."""
    generator = torch.Generator().manual_seed(0)
    shape = (n_rows, length, SCAN_WIDTH)
    decay = torch.rand(shape, generator=generator).requires_grad_()
    values = torch.randn(shape, generator=generator).requires_grad_()
    weights = torch.randn(shape, generator=generator)

    def step(number: int) -> float:
        torch.autograd.grad(scan(decay, values), [decay, values], weights)
        return n_rows * length

    return step


def by_index(decay: Tensor, values: Tensor) -> Tensor:
    """The loop one writes first."""
    hidden = torch.zeros_like(values[:, 0])
    steps = []
    for t in range(values.shape[1]):
        hidden = decay[:, t] * hidden + values[:, t]
        steps.append(hidden)
    return torch.stack(steps, dim=1)


def by_unbind(decay: Tensor, values: Tensor) -> Tensor:
    """The same, its steps taken apart at once."""
    hidden = torch.zeros_like(values[:, 0])
    steps = []
    for decay_here, values_here in zip(decay.unbind(1), values.unbind(1), strict=True):
        hidden = decay_here * hidden + values_here
        steps.append(hidden)
    return torch.stack(steps, dim=1)


def pairs(folder: Path, quick: bool) -> list[Pair]:
    """For the runner."""
    return [*mamba2_pairs(quick), *scan_pairs(quick), *model_pairs(quick)]


def mamba2_pairs(quick: bool) -> list[Pair]:
    """Mamba2 beside that of transformers."""
    seq_len = 8 if quick else SEQ_LEN
    we = Contestant("ours", partial(ours, shape("mamba2", head_dim=64), seq_len))
    return [
        Pair(
            f"train Mamba2, d_model {D_MODEL} x {N_LAYERS} layers, {BATCH_SIZE} x {SEQ_LEN}",
            "tokens/s",
            we,
            Contestant(f"transformers, chunks of {chunk_size}", partial(hugging_face, chunk_size, seq_len)),
            aim,
        )
        for chunk_size, aim in ((DEFAULT_CHUNK, 3.0), (BEST_CHUNK, 1.1))
    ]


def scan_pairs(quick: bool) -> list[Pair]:
    """The scan beside loops."""
    length = 8 if quick else SCAN_LENGTH
    found = []
    for n_rows, others in ((32, (("indexes", by_index, 10.0), ("unbinds", by_unbind, 2.0))),
                           (8, (("unbinds", by_unbind, 5.0),))):  # fmt: skip
        we = Contestant("odd-even scan", partial(scanning, linear_scan, n_rows, length), n_warm=20)
        for name, scan, aim in others:
            loop = Contestant(f"loop that {name}", partial(scanning, scan, n_rows, length), n_warm=3)
            found.append(Pair(f"scan {n_rows} x {SCAN_LENGTH} x {SCAN_WIDTH}", "tokens/s", we, loop, aim))
    return found


def model_pairs(quick: bool) -> list[Pair]:
    """Each model beside a transformer of as many parameters."""
    seq_len, found = 8 if quick else SEQ_LEN, []
    for name in MODELS[:1] if quick else MODELS:
        config = shape(name, head_dim=64)
        setting = f"train {n_params(config):,} parameters, {BATCH_SIZE} x {SEQ_LEN}"
        transformer = Contestant("transformer", partial(ours, transformer_like(config), seq_len))
        found.append(Pair(setting, "tokens/s", Contestant(name, partial(ours, config, seq_len)), transformer))
    return found

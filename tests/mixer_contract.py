"""What every mixer has to do, as checks of a model that has it: ``check(config)`` for each of `CHECKS`.

`tests/model/test_mixers.py` runs them for all mixers of the library, by name; a test of a mixer from outside
runs them for its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nanollama.data.batch import Batch, collate
from nanollama.model import ModelConfig, build_model, model_class
from nanollama.model.protocol import LanguageModel
from nanollama.training.loss import next_token_loss

VOCAB_SIZE = 50
SHAPE = {"vocab_size": VOCAB_SIZE, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 64}


def shape(**keys: object) -> ModelConfig:
    """A very small model; keys of mixers that are not in it do no harm."""
    return ModelConfig.model_validate({**SHAPE, **keys})


def build(config: ModelConfig, seed: int = 0) -> LanguageModel:
    """In evaluation mode."""
    return build_model(config, torch.Generator().manual_seed(seed)).eval()


def tokens(n_rows: int = 3, seq_len: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(VOCAB_SIZE, (n_rows, seq_len), generator=torch.Generator().manual_seed(seed))


def documents_batch(**options: int) -> Batch:
    """Five documents of different lengths, some of whose tokens carry loss."""
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(VOCAB_SIZE, (length,), generator=generator).numpy() for length in (5, 9, 4, 7, 6)]
    masks = [torch.rand(len(row), generator=generator).numpy() > 0.4 for row in ids]
    for mask in masks:
        mask[0] = False
    return collate(ids, masks, **options)


@torch.no_grad()
def check_logits_and_queries(config: ModelConfig) -> None:
    model, ids = build(config), tokens()
    everywhere = model(ids)
    assert everywhere.shape == (3, 12, VOCAB_SIZE) and everywhere.dtype == torch.float32
    positions = torch.tensor([[0, 3, 11], [5, 6, 7], [11, 0, 0]])
    expected = everywhere.gather(1, positions[:, :, None].expand(-1, -1, VOCAB_SIZE))
    torch.testing.assert_close(model(ids, query_positions=positions), expected)


@torch.no_grad()
def check_a_token_changes_no_logit_before_it_and_some_at_it(config: ModelConfig) -> None:
    model, ids = build(config), tokens()
    before = model(ids)
    for position in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 1) % VOCAB_SIZE
        after = model(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.allclose(after[:, position], before[:, position], atol=1e-4)


@torch.no_grad()
def check_decoding_equals_the_full_forward(config: ModelConfig) -> None:
    model, ids = build(config), tokens(2, 20)
    state, steps = model.make_state(2, capacity=20), []
    for start, stop in itertools.pairwise([0, 7, 8, 9, 15, 20]):
        steps.append(model(ids[:, start:stop], state=state))
        state.advance(torch.full((2,), stop - start), stop)
    torch.testing.assert_close(torch.cat(steps, dim=1), model(ids), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def check_lanes_stand_at_their_own_positions(config: ModelConfig) -> None:
    """Prompts of different lengths are padded; a row leaves; what padding held is never seen."""
    model, ids, lengths = build(config), tokens(3, 14), torch.tensor([4, 9, 1])
    state = model.make_state(3, capacity=12)
    for rows in (slice(0, 2), slice(2, 3)):  # a few at a time
        part = state.part(rows, lengths[rows])
        model(ids[rows, : int(lengths[:2].max())], state=part)
    state.advance(lengths, 9)
    assert state.keep(torch.tensor([True, False, True])).tolist() == [0, 2]
    assert state.longest == 4 and state.lengths.tolist() == [4, 1]
    more = torch.tensor([3, 0])  # one row waits
    model(ids[[0, 2], 9:13], state=state.part(slice(None), more))
    state.advance(more, 7)
    logits = model(ids[[0, 2], 13:14], state=state)[:, 0]
    alone = (torch.cat([ids[0, :4], ids[0, 9:12], ids[0, 13:]]), torch.cat([ids[2, :1], ids[2, 13:]]))
    expected = torch.stack([model(row[None])[0, -1] for row in alone])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def check_the_memory_of_a_lane_is_counted(config: ModelConfig) -> None:
    model = build(config)
    layers = model.make_state(3, capacity=7).layers
    stored = [tensor for layer in layers for tensor in layer.tensors().values()]
    assert all(len(tensor) == 3 for tensor in stored)
    assert 3 * model.state_bytes(7) == sum(tensor.nbytes for tensor in stored)


def check_packed_documents_learn_what_they_learn_alone(config: ModelConfig) -> None:
    model, alone, packed = build(config), documents_batch(), documents_batch(row_len=15)
    assert len(packed.input_ids) < len(alone.input_ids)
    gradients = []
    for batch in (alone, packed):
        model.zero_grad()
        loss = next_token_loss(model, batch)
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def check_every_parameter_learns(config: ModelConfig) -> None:
    model = build(config)
    next_token_loss(model, documents_batch()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def check_weights_come_from_the_generator(config: ModelConfig) -> None:
    model, again, other = build(config), build(config), build(config, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not any(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True) if a.dim() == 2
    )


@torch.no_grad()
def check_a_model_from_the_meta_device_has_nothing_unset(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = model_class(config)(config)
    model.to_empty(device="cpu")
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        nn.init.constant_(tensor, math.nan)
    model.init_weights(torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.eval()(tokens()), build(config)(tokens()))


def check_flops_equal_those_that_torch_counts(config: ModelConfig) -> None:
    model, queries = build(config), torch.arange(5).expand(3, -1)
    for positions, n_queries in ((None, None), (queries, 5)):
        # torch knows the cost of plain matrix products, not of the kernel that CPUs have.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(tokens(), query_positions=positions)
        assert counter.get_total_flops() == 3 * model.forward_flops(12, n_queries)


def check_a_batch_is_overfitted(config: ModelConfig) -> None:
    model, batch = build(config, seed=2), documents_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = next_token_loss(model, batch) / batch.n_loss_tokens
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


@torch.no_grad()
def check_bfloat16_stays_near_float32(config: ModelConfig) -> None:
    model, ids = build(config), tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model(ids), rtol=0.1, atol=0.1)


CHECKS: dict[str, Callable[[ModelConfig], None]] = {
    name.removeprefix("check_").replace("_", " "): check
    for name, check in dict(globals()).items()
    if name.startswith("check_")
}

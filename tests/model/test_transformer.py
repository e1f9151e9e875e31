"""The transformer against Hugging Face's Llama, against itself, and against counts done by hand."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nanollama.data.batch import IGNORE, Batch, collate
from nanollama.model import build_model
from nanollama.model.layers import Context
from nanollama.model.transformer import Rotary, Transformer, TransformerConfig, rotate
from nanollama.training.loss import next_token_loss

VARIANTS: dict[str, dict[str, object]] = {
    "llama": {},
    "grouped": {"n_kv_heads": 1},
    "gpt": {"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True},
    "no positions, tied": {"positions": "none", "tied_embeddings": True},
    "two pi, wide heads": {"rope_two_pi": True, "head_dim": 6, "d_ff": 20},
}


def make(seed: int = 0, **options: object) -> Transformer:
    shape = {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 64}
    config = TransformerConfig(**{**shape, **options})  # type: ignore[arg-type]
    return build_model(config, torch.Generator().manual_seed(seed)).eval()


def tokens(n_rows: int = 3, seq_len: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(50, (n_rows, seq_len), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=VARIANTS, ids=str)
def model(request: pytest.FixtureRequest) -> Transformer:
    return make(**VARIANTS[request.param])


@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
def test_logits_equal_those_of_hugging_face_llama(n_kv_heads: int) -> None:
    transformers = pytest.importorskip("transformers")
    ours = make(d_model=32, n_heads=4, n_kv_heads=n_kv_heads, n_layers=3, d_ff=48, rope_theta=500.0)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=n_kv_heads,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        )
    ).eval()
    copy_to_llama(ours, theirs)
    ids = tokens(4, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)


def copy_to_llama(ours: Transformer, theirs: nn.Module) -> None:
    """Our joint matrices, cut into Hugging Face's; every parameter of theirs must get a value."""
    kv_width = ours.config.kv_heads * ours.config.head_width
    state = {
        "model.embed_tokens.weight": ours.embedding.weight,
        "model.norm.weight": ours.norm.weight,
        "lm_head.weight": ours.head.weight,
    }
    for layer, block in enumerate(ours.blocks):
        prefix = f"model.layers.{layer}"
        query, key, value = block.attention.qkv.weight.split(
            [ours.config.n_heads * ours.config.head_width, kv_width, kv_width]
        )
        gate, up = block.mlp.gate_up.weight.chunk(2)
        state |= {
            f"{prefix}.self_attn.q_proj.weight": query,
            f"{prefix}.self_attn.k_proj.weight": key,
            f"{prefix}.self_attn.v_proj.weight": value,
            f"{prefix}.self_attn.o_proj.weight": block.attention.output.weight,
            f"{prefix}.mlp.gate_proj.weight": gate,
            f"{prefix}.mlp.up_proj.weight": up,
            f"{prefix}.mlp.down_proj.weight": block.mlp.down.weight,
            f"{prefix}.input_layernorm.weight": block.attention_norm.weight,
            f"{prefix}.post_attention_layernorm.weight": block.mlp_norm.weight,
        }
    theirs.load_state_dict({name: tensor.detach() for name, tensor in state.items()}, strict=True)


@torch.no_grad()
def test_a_token_changes_no_logit_before_it_and_some_at_it(model: Transformer) -> None:
    ids = tokens()
    before = model(ids)
    for position in range(ids.shape[1]):
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 1) % 50
        after = model(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.allclose(after[:, position], before[:, position])


@torch.no_grad()
def test_queries_get_the_logits_of_the_full_forward(model: Transformer) -> None:
    ids = tokens()
    positions = torch.tensor([[0, 3, 11], [5, 6, 7], [11, 0, 0]])
    expected = model(ids).gather(1, positions[:, :, None].expand(-1, -1, 50))
    torch.testing.assert_close(model(ids, query_positions=positions), expected)


@torch.no_grad()
def test_cached_decoding_equals_the_full_forward(model: Transformer) -> None:
    ids = tokens(2, 20)
    expected = model(ids)
    cache = model.make_cache(2, capacity=20)
    steps = []
    for start, stop in itertools.pairwise([0, 7, 8, 9, 15, 20]):
        steps.append(model(ids[:, start:stop], cache=cache))
        cache.advance(torch.full((2,), stop - start), stop)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_lanes_of_a_cache_stand_at_their_own_positions(model: Transformer) -> None:
    ids = tokens(3, 12)
    lengths = torch.tensor([4, 9, 6])
    cache = model.make_cache(3, capacity=12)
    model(ids[:, :9], cache=cache)  # padded for the shorter lanes
    cache.advance(lengths, 9)
    assert cache.keep(torch.tensor([True, False, True])).tolist() == [0, 2]
    assert cache.longest == 6
    following = torch.stack([ids[0, 4], ids[2, 6]])[:, None]
    logits = model(following, cache=cache)[:, 0]
    expected = torch.stack([model(ids[0:1, :5])[0, -1], model(ids[2:3, :7])[0, -1]])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_lanes_read_in_parts_are_those_of_the_whole_cache(model: Transformer) -> None:
    ids, lengths = tokens(3, 9), torch.tensor([4, 9, 6])
    cache = model.make_cache(3, capacity=12)
    for lanes in (slice(0, 2), slice(2, 3)):
        model(ids[lanes, : int(lengths[lanes].max())], cache=cache.part(lanes))
    cache.advance(lengths, 9)
    following = tokens(3, 1)
    logits = model(following, cache=cache)[:, 0]
    for row, length in enumerate(lengths.tolist()):
        alone = torch.cat([ids[row : row + 1, :length], following[row : row + 1]], dim=1)
        torch.testing.assert_close(logits[row], model(alone)[0, -1], rtol=1e-5, atol=1e-5)


def test_finished_lanes_leave_and_the_last_ones_take_their_places() -> None:
    cache = make().make_cache(6, capacity=3)
    for stored in (cache.keys, cache.values):
        stored += torch.arange(6.0)[:, None, None, None]
    cache.advance(torch.arange(1, 7) % 4, 3)
    kept = torch.tensor([False, True, False, True, True, True])
    lanes = cache.keep(kept)
    assert sorted(lanes.tolist()) == [1, 3, 4, 5]
    assert cache.lengths.tolist() == [(lane + 1) % 4 for lane in lanes.tolist()]
    assert cache.longest == 2
    for stored in (cache.keys, cache.values):
        assert stored.shape[1] == 4
        assert torch.equal(stored[:, :, :, :3], lanes.float()[:, None, None, None].expand_as(stored))


def test_the_memory_of_a_lane_is_counted(model: Transformer) -> None:
    cache = model.make_cache(1, capacity=7)
    assert model.cache_bytes(7) == cache.keys.nbytes + cache.values.nbytes


def test_a_full_cache_says_so() -> None:
    model = make()
    with pytest.raises(ValueError, match="holds 4 tokens a lane; 5 asked for"):
        model(tokens(1, 5), cache=model.make_cache(1, capacity=4))


def documents_batch(**options: int) -> Batch:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(50, (length,), generator=generator).numpy() for length in (5, 9, 4, 7, 6)]
    masks = [torch.rand(len(row), generator=generator).numpy() > 0.4 for row in ids]
    for mask in masks:
        mask[0] = False
    return collate(ids, masks, **options)


def test_packed_documents_learn_what_they_learn_alone(model: Transformer) -> None:
    alone, packed = documents_batch(), documents_batch(row_len=15)
    assert len(packed.input_ids) < len(alone.input_ids)
    gradients = []
    for batch in (alone, packed):
        model.zero_grad()
        loss = next_token_loss(model, batch)
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_parts_of_a_batch_add_up_to_its_gradient(model: Transformer) -> None:
    batch = documents_batch()
    gradients = []
    for parts in (1, 3):
        model.zero_grad()
        for part in batch.split(parts):
            next_token_loss(model, part).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_mean_of_minus_log_probabilities() -> None:
    model, batch = make(), documents_batch()
    probabilities = model(batch.input_ids).softmax(-1).detach()
    assert batch.query_positions is not None
    by_hand = 0.0
    for row, query in itertools.product(*map(range, batch.targets.shape)):
        target = int(batch.targets[row, query])
        if target != IGNORE:
            by_hand -= math.log(float(probabilities[row, int(batch.query_positions[row, query]), target]))
    assert next_token_loss(model, batch).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("d_model", [4, 28, 36, 128])
def test_parameters_follow_the_published_formula(d_model: int) -> None:
    model = make(vocab_size=260, d_model=d_model)
    assert model.n_params() == 32 * d_model**2 + 525 * d_model
    if d_model == 28:
        assert model.n_params() == 39_788


def test_tied_embeddings_are_one_matrix_and_stay_one() -> None:
    tied, untied = make(tied_embeddings=True), make()
    assert tied.head.weight is tied.embedding.weight
    assert untied.n_params() - tied.n_params() == 50 * 16
    assert len(list(tied.parameters())) == len(list(untied.parameters())) - 1


def test_flops_equal_those_that_torch_counts(model: Transformer) -> None:
    queries = torch.arange(5).expand(3, -1)
    for positions, n_queries in ((None, None), (queries, 5)):
        # torch knows the cost of plain matrix products, not of the kernel that CPUs have.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(tokens(), query_positions=positions)
        assert counter.get_total_flops() == 3 * model.forward_flops(12, n_queries)


def test_rotary_scores_depend_on_distance_only_and_every_pair_turns() -> None:
    rotary = Rotary(TransformerConfig(d_model=16, n_layers=1, n_heads=2, max_seq_len=64))
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    turned = [rotate(vector.expand(1, 1, 64, 8), rotary(torch.arange(64)))[0, 0] for vector in (query, key)]
    scores = turned[0] @ turned[1].T
    for distance in (0, 1, 17):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[0].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert (rotary.cos[1] != 1).all()
    # arXiv 2104.09864, equation 34: the first pair turns by one radian a position.
    assert float(rotary.cos[1, 0]) == pytest.approx(math.cos(1.0))


def test_two_pi_stops_the_fastest_pair_as_in_the_published_runs() -> None:
    config = TransformerConfig(d_model=16, n_layers=1, n_heads=2, max_seq_len=64, rope_two_pi=True)
    rotary = Rotary(config)
    torch.testing.assert_close(rotary.cos[:, 0], torch.ones(64))
    assert float(rotary.cos[1, 1]) == pytest.approx(math.cos(2 * math.pi / 10_000 ** (2 / 8)), abs=1e-6)


def test_every_parameter_learns_and_weights_come_from_the_generator(model: Transformer) -> None:
    next_token_loss(model, documents_batch()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name
    again, other = (build_model(model.config, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(model.embedding.weight, other.embedding.weight)


def test_init_leaves_nothing_unset_on_a_model_made_on_the_meta_device() -> None:
    expected = make(bias=True, norm="layer")
    with torch.device("meta"):
        model = Transformer(expected.config)
    model.to_empty(device="cpu")
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        nn.init.constant_(tensor, math.nan)
    model.init_weights(torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(tokens()), expected(tokens()))


@torch.no_grad()
def test_initial_weights_have_the_spread_that_is_asked_for() -> None:
    shape: dict[str, object] = {
        "d_model": 64,
        "n_layers": 2,
        "positions": "learned",
        "norm": "layer",
        "bias": True,
    }
    for options, std, embedding_std in (
        ({}, 1 / 8, 1 / 8),
        ({"init_std": 0.3}, 0.3, 0.3),
        ({"init_std": 0.3, "embedding_std": 0.02}, 0.3, 0.02),
    ):
        model = make(**shape, **options)
        for name, parameter in model.named_parameters():
            if "embedding" in name:
                assert float(parameter.std()) == pytest.approx(embedding_std, rel=0.1), name
            elif parameter.dim() == 2:  # what writes to the stream is scaled by 1 / sqrt(2 n_layers)
                scale = 0.5 if name.endswith(("attention.output.weight", "mlp.down.weight")) else 1.0
                assert float(parameter.std()) == pytest.approx(std * scale, rel=0.1), name
            else:
                assert (parameter == (1.0 if name.endswith("norm.weight") else 0.0)).all(), name


@torch.no_grad()
@pytest.mark.parametrize("residual", ["stream", "normed"])
def test_attention_adds_to_the_stream_or_to_the_normed_stream(residual: str) -> None:
    block = make(residual=residual, positions="none").blocks[0]
    block.attention_norm.weight.mul_(3.0)
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    normed = block.attention_norm(x)
    collected = block.attention.output(block.attention(normed, Context(None, None, None), 0))
    stream = (normed if residual == "normed" else x) + collected
    expected = stream + block.mlp(block.mlp_norm(stream))
    torch.testing.assert_close(block(x, Context(None, None, None)), expected)


@torch.no_grad()
def test_learned_positions_write_to_the_first_coordinates_alone() -> None:
    model = make(positions="learned", position_dim=6)
    assert model.position_embedding.weight.shape == (64, 6)
    seen: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(tokens())
    added = seen[0] - model.embedding(tokens())
    torch.testing.assert_close(added[..., :6], model.position_embedding.weight[:12].expand(3, 12, 6))
    assert (added[..., 6:] == 0).all()


@pytest.mark.parametrize(
    ("dropout", "on_embeddings", "expected"), [(0.5, None, 0.5), (0.5, 0.0, 0.0), (0.0, 0.5, 0.5)]
)
def test_dropout_on_embeddings_may_differ(
    dropout: float, on_embeddings: float | None, expected: float
) -> None:
    model = make(dropout=dropout, embedding_dropout=on_embeddings).train()
    torch.manual_seed(0)
    seen: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(tokens(30))
    assert float((seen[0] == 0).double().mean()) == pytest.approx(expected, abs=0.05)


def test_dropout_falls_on_both_halves_of_a_block() -> None:
    block = make(dropout=0.5, positions="none").train().blocks[0]
    x = torch.randn(8, 20, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with torch.no_grad():
        block.mlp.down.weight.zero_()
        assert float((block(x, Context(None, None, None)) == x).double().mean()) == pytest.approx(
            0.5, abs=0.05
        )
        block.mlp.down.weight.normal_(0.0, 1.0)
        block.attention.output.weight.zero_()
        assert float((block(x, Context(None, None, None)) == x).double().mean()) == pytest.approx(
            0.5, abs=0.05
        )


def test_dropout_is_for_training_only() -> None:
    model = make(dropout=0.5)
    assert torch.equal(model(tokens()), model(tokens()))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(tokens()), model(tokens()))


def test_a_model_overfits_one_batch() -> None:
    model, batch = make(seed=2), documents_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = next_token_loss(model, batch) / batch.n_loss_tokens
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_bfloat16_stays_near_float32_and_logits_are_float32(n_kv_heads: int) -> None:
    model, ids = make(n_kv_heads=n_kv_heads), tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model(ids), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 15}, "d_model = 15 is not a multiple of n_heads = 2"),
        ({"n_heads": 4, "n_kv_heads": 3}, "n_heads = 4 is not a multiple of n_kv_heads = 3"),
        ({"head_dim": 5}, "head_dim = 5 must be even"),
        ({"positions": "none", "rope_two_pi": True}, "rope_two_pi needs positions = rotary, not none"),
        ({"n_layers": 0}, "greater than or equal to 1"),
        ({"d_modle": 3}, "d_modle"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)

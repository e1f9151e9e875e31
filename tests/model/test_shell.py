"""The shell with attention against Hugging Face's Llama and against counts done by hand; its settings."""

import itertools
import math

import pytest
import torch
from mixer_contract import build, documents_batch, shape, tokens
from torch import Tensor

from nanollama.data.batch import IGNORE
from nanollama.exchange.architectures import LLAMA
from nanollama.exchange.export import weight_table
from nanollama.exchange.weights import to_theirs
from nanollama.model.mixers.mixer import Context
from nanollama.model.positions import Rotary, rotate
from nanollama.model.shell import Shell
from nanollama.training.loss import next_token_loss


def make(seed: int = 0, **options: object) -> Shell:
    model = build(shape(**options), seed)
    assert isinstance(model, Shell)
    return model


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
    theirs.load_state_dict(to_theirs(weight_table(LLAMA, ours.config, False), ours.state_dict()), strict=True)
    ids = tokens(4, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)


def test_parts_of_a_batch_add_up_to_its_gradient() -> None:
    model, batch = make(), documents_batch()
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


def test_rotary_scores_depend_on_distance_only_and_every_pair_turns() -> None:
    rotary = Rotary(shape())
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
    rotary = Rotary(shape(rope_two_pi=True))
    torch.testing.assert_close(rotary.cos[:, 0], torch.ones(64))
    assert float(rotary.cos[1, 1]) == pytest.approx(math.cos(2 * math.pi / 10_000 ** (2 / 8)), abs=1e-6)


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
        tied = make(**shape, **options, tied_embeddings=True).embedding.weight
        assert float(tied.std()) == pytest.approx(embedding_std, rel=0.1)
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
    stream = (normed if residual == "normed" else x) + block.attention(normed, Context(slice(5)))
    expected = stream + block.mlp(block.mlp_norm(stream))
    torch.testing.assert_close(block(x, Context(slice(5))), expected)


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
        assert float((block(x, Context(slice(20))) == x).double().mean()) == pytest.approx(0.5, abs=0.05)
        block.mlp.down.weight.normal_(0.0, 1.0)
        block.attention.output.weight.zero_()
        assert float((block(x, Context(slice(20))) == x).double().mean()) == pytest.approx(0.5, abs=0.05)


def test_dropout_is_for_training_only() -> None:
    model = make(dropout=0.5)
    assert torch.equal(model(tokens()), model(tokens()))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(tokens()), model(tokens()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 15}, "d_model = 15 is not a multiple of n_heads = 2"),
        ({"n_heads": 4, "n_kv_heads": 3}, "n_heads = 4 is not a multiple of n_kv_heads = 3"),
        ({"head_dim": 5}, "head_dim = 5 must be even"),
        ({"positions": "none", "rope_two_pi": True}, "rope_two_pi needs positions = rotary, not none"),
        ({"n_heads": None}, "n_heads is missing: attention needs a number of heads"),
        ({"implementation": []}, "at least 1 item"),
        (
            {"implementation": ["transformer"] * 2, "n_layers": 3},
            "names 2 mixers: n_layers = 3 must be a mult",
        ),
        ({"implementation": "transfromer"}, "got 'transfromer'; did you mean 'transformer'?"),
        ({"n_layers": 0}, "greater than or equal to 1"),
        ({"d_modle": 3}, "d_modle"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)

"""Mamba2, Hawk, minGRU and minLSTM against their published formulas, and where gates are open or shut."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from mixer_contract import build, documents_batch, shape, tokens
from torch import Tensor
from toy_dialogs import TOKENIZER, FactTool, toy_model, toy_prompts

from nanollama.data.batch import Batch
from nanollama.dialogs.generate import generate, generate_one
from nanollama.exchange.architectures import MAMBA
from nanollama.exchange.export import weight_table
from nanollama.exchange.weights import to_theirs
from nanollama.model.mixers import kernels, mamba2
from nanollama.model.mixers.hawk import Hawk
from nanollama.model.mixers.mamba2 import Mamba2
from nanollama.model.mixers.mingru import MinGRU
from nanollama.model.mixers.minlstm import MinLSTM
from nanollama.model.mixers.mixer import Context, Mixer
from nanollama.model.ssd import ssd
from nanollama.training.loss import next_token_loss

RECURRENT = ("mamba2", "hawk", "mingru", "minlstm")


def mixer_of(implementation: str, **keys: object) -> Mixer:
    """The mixer of the first layer, in float64."""
    model = build(shape(implementation=implementation, **keys)).double()
    mixer = model.get_submodule(f"blocks.0.{implementation}")
    assert isinstance(mixer, Mixer)
    return mixer


def stream(n_tokens: int = 9) -> Tensor:
    return torch.randn(2, n_tokens, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def convolved(x: Tensor, mixer: Mixer) -> Tensor:
    """A short convolution, token by token."""
    assert isinstance(mixer, MinGRU | MinLSTM | Hawk)
    taps, bias = mixer.convolution.taps, mixer.convolution.bias
    rows = []
    for t in range(x.shape[1]):
        total = bias.expand(len(x), -1)
        for k in range(min(t + 1, taps.shape[1])):
            total = total + taps[:, taps.shape[1] - 1 - k] * x[:, t - k]
        rows.append(total)
    return torch.stack(rows, dim=1)


@torch.no_grad()
def test_mingru_is_its_formula() -> None:
    mixer, x = mixer_of("mingru", bias=True), stream()
    assert isinstance(mixer, MinGRU)
    mixer.gates.bias.normal_(generator=torch.Generator().manual_seed(1))
    hidden, expected = torch.zeros(2, 32, dtype=torch.float64), []
    for token in convolved(x, mixer).unbind(1):
        gate, candidate = mixer.gates(token).chunk(2, dim=-1)
        hidden = (1 - gate.sigmoid()) * hidden + gate.sigmoid() * candidate
        expected.append(mixer.output(hidden))
    torch.testing.assert_close(mixer(x, Context(slice(9))), torch.stack(expected, dim=1))


@torch.no_grad()
def test_minlstm_is_its_formula() -> None:
    mixer, x = mixer_of("minlstm"), stream()
    assert isinstance(mixer, MinLSTM)
    hidden, expected = torch.zeros(2, 32, dtype=torch.float64), []
    for token in convolved(x, mixer).unbind(1):
        forget, write, candidate = mixer.gates(token).chunk(3, dim=-1)
        forget, write = forget.sigmoid(), write.sigmoid()
        hidden = forget / (forget + write) * hidden + write / (forget + write) * candidate
        expected.append(mixer.output(hidden))
    torch.testing.assert_close(mixer(x, Context(slice(9))), torch.stack(expected, dim=1))


@torch.no_grad()
def test_hawk_is_its_formula() -> None:
    """Equations 1 to 4 of arXiv 2402.19427, gates as full matrices with zeros outside of their blocks."""
    mixer, x = mixer_of("hawk"), stream()
    assert isinstance(mixer, Hawk) and mixer.n_blocks == 2
    mixer.gate_bias.normal_(generator=torch.Generator().manual_seed(1))
    forget_map, write_map = (
        torch.block_diag(*(block.chunk(2, dim=-1)[index].T for block in mixer.gates)) for index in (0, 1)
    )
    forget_bias, write_bias = mixer.gate_bias.chunk(2)
    branch, inner = mixer.input(x).chunk(2, dim=-1)
    inner = convolved(inner, mixer)
    hidden, expected = torch.zeros(2, 32, dtype=torch.float64), []
    for t, token in enumerate(inner.unbind(1)):
        forget = torch.sigmoid(F.linear(token, forget_map, forget_bias))
        write = torch.sigmoid(F.linear(token, write_map, write_bias))
        decay = mixer.decay.sigmoid() ** (8 * forget)
        hidden = decay * hidden + (1 - decay**2).sqrt() * (write * token)
        expected.append(mixer.output(F.gelu(branch[:, t]) * hidden))
    torch.testing.assert_close(mixer(x, Context(slice(9))), torch.stack(expected, dim=1))


@torch.no_grad()
@pytest.mark.parametrize("chunk_size", [4, 32])
def test_logits_equal_those_of_mamba2_in_transformers(chunk_size: int) -> None:
    transformers = pytest.importorskip("transformers")
    keys = {"d_model": 32, "n_layers": 3, "n_heads": None, "head_dim": 16, "d_state": 8, "mlp": "none"}
    config = shape(implementation="mamba2", chunk_size=chunk_size, **keys)
    ours = build(config)
    theirs = transformers.Mamba2ForCausalLM(
        transformers.Mamba2Config(
            vocab_size=50,
            hidden_size=32,
            num_hidden_layers=3,
            num_heads=4,
            head_dim=16,
            state_size=8,
            expand=2,
            n_groups=1,
            conv_kernel=4,
            chunk_size=16,
            layer_norm_epsilon=1e-5,
            tie_word_embeddings=False,
        )
    ).eval()
    for name, parameter in ours.named_parameters():  # also what starts at 0 or 1
        if parameter.dim() == 1 and not name.endswith("A_log"):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 3)
    table = weight_table(MAMBA, config, False)
    theirs.load_state_dict(to_theirs(table, ours.state_dict()), strict=True)
    ids = tokens(3, 45)
    torch.testing.assert_close(ours(ids), theirs(ids, use_cache=False).logits, rtol=1e-4, atol=1e-4)


def saturate(mixer: Mixer, size: float) -> None:
    """Make gates that are as good as open or shut, and some that are exactly so."""
    if isinstance(mixer, Mamba2):
        mixer.dt_bias.fill_(size)
    elif isinstance(mixer, Hawk):
        mixer.gate_bias.fill_(size)
    else:
        assert isinstance(mixer, MinGRU | MinLSTM)
        mixer.gates.bias.fill_(size)


@pytest.mark.parametrize("size", [-1e4, -90.0, -20.0, 20.0, 90.0, 1e4])
@pytest.mark.parametrize("implementation", RECURRENT)
def test_saturated_gates_give_finite_values_and_gradients(implementation: str, size: float) -> None:
    model, batch = build(shape(implementation=implementation, bias=True)), documents_batch(row_len=15)
    for layer in (0, 1):
        mixer = model.get_submodule(f"blocks.{layer}.{implementation}")
        assert isinstance(mixer, Mixer)
        with torch.no_grad():
            saturate(mixer, size)
    loss = next_token_loss(model, batch)
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_gates_that_never_write_leave_what_was_read() -> None:
    """minGRU with an update gate of exactly 0 from the fourth token on."""
    mixer, x = mixer_of("mingru", bias=True, conv_size=1), stream(40)
    assert isinstance(mixer, MinGRU)
    mixer.gates.weight[:32] = 0
    mixer.gates.weight[:32, 0] = 1
    x[:, 3:, 0] = -1e5 * mixer.convolution.taps[0, 0].sign()
    mixed = mixer(x, Context(slice(40)))
    assert torch.equal(mixed[:, 4:], mixed[:, 3:4].expand(-1, 36, -1))


@torch.no_grad()
def test_initial_weights_are_those_of_the_papers() -> None:
    hawk = build(shape(implementation="hawk", d_model=256)).get_submodule("blocks.0.hawk")
    assert isinstance(hawk, Hawk)
    slowest = hawk.decay.double().sigmoid() ** 8
    assert 0.9 <= slowest.min() < 0.905 and 0.994 < slowest.max() <= 0.9990001
    assert float(slowest.mean()) == pytest.approx((0.9 + 0.999) / 2, abs=0.01)

    found = build(shape(implementation="mamba2", d_model=256, head_dim=1)).get_submodule("blocks.0.mamba2")
    assert isinstance(found, Mamba2)
    steps, rates = F.softplus(found.dt_bias), found.A_log.exp()
    assert 0.99e-3 <= steps.min() < 1.1e-3 and 0.09 < steps.max() <= 0.101
    assert float(steps.log().mean()) == pytest.approx(torch.tensor([1e-3, 1e-1]).log().mean().item(), abs=0.2)
    assert 0.99 <= rates.min() < 1.3 and 15.5 < rates.max() <= 16.01
    assert (found.D == 1).all() and (found.convolution.bias == 0).all()
    assert found.convolution.taps.abs().max() <= 0.5


@pytest.mark.parametrize("implementation", RECURRENT)
def test_the_state_does_not_grow_with_what_is_read(implementation: str) -> None:
    model = build(shape(implementation=implementation))
    assert model.state_bytes(7) == model.state_bytes(60)
    numbers = {"mamba2": 3 * 64 + 32 * 16, "hawk": 3 * 32 + 32}.get(implementation, 3 * 16 + 32)
    assert model.state_bytes(7) == 2 * 4 * numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("implementation", RECURRENT)
def test_half_precision_trains_with_gradients_near_those_of_float32(
    implementation: str, dtype: torch.dtype
) -> None:
    """As a V100 does, with the loss scaled: nothing overflows, and long rows add up."""
    model = build(shape(implementation=implementation, max_seq_len=300))
    ids = tokens(2, 300)
    gradients = []
    for is_half in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=is_half):
            logits = model(ids)
        (F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) * 2**14).backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert other.isfinite().all()
        assert (one - other).norm() <= 0.1 * one.norm() + 1e-3 * 2**14


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"implementation": "mamba2", "head_dim": 5},
            r"expand \* d_model = 32 is not a multiple of head_dim = 5",
        ),
        ({"implementation": "mamba2", "n_heads": 20}, "d_model = 16 is not a multiple of n_heads = 20"),
        (
            {"implementation": ["hawk", "mingru"], "n_heads": 3},
            r"expand \* d_model = 32 is not a multiple of n_heads = 3",
        ),
        ({"implementation": "minlstm", "causal": False}, "causal = false is not for minlstm"),
        ({"implementation": "mamba"}, "did you mean 'mamba2'"),
        ({"implementation": "mingru", "conv_size": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_shapes_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shape(**keys)


@pytest.mark.parametrize("implementation", [*RECURRENT, ["mamba2", "transformer"]], ids=str)
def test_it_decodes_with_tools(implementation: object) -> None:
    model = toy_model(60, implementation=implementation, n_layers=2)
    prompts = [*toy_prompts("abcz"), TOKENIZER.encode("?abcdefgh")]
    together = generate(model, TOKENIZER, prompts, FactTool(), max_new_tokens=30, batch_size=4)
    alone = [generate_one(model, TOKENIZER, prompt, FactTool(), max_new_tokens=30) for prompt in prompts]
    assert together == alone
    assert any(completion.replies for completion in together)


def kernel_twin(
    values: Tensor,
    steps: Tensor,
    rates: Tensor,
    keys: Tensor,
    queries: Tensor,
    chunk_size: int,
    *,
    D: Tensor,
    seq_idx: Tensor | None,
) -> Tensor:
    """What mamba_ssm's kernel computes, by its own names of arguments."""
    opens = None
    if seq_idx is not None:
        assert seq_idx.dtype == torch.int32 and seq_idx.shape == values.shape[:2]
        opens = torch.ones_like(seq_idx, dtype=torch.bool)
        opens[:, 1:] = seq_idx[:, 1:] != seq_idx[:, :-1]
    (keys,), (queries,) = keys.unbind(2)[:1], queries.unbind(2)[:1]
    read, _ = ssd(values, steps, rates, keys, queries, D, chunk_size=chunk_size, opens=opens)
    return read


def test_kernels_are_used_where_they_import_and_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_import", kernels._import.__wrapped__)  # without what is remembered
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.triton.ssd_combined", None)
    assert kernels.chunk_scan("cuda") is None, "not installed"
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton", "mamba_ssm.ops.triton.ssd_combined"):
        module = ModuleType(name)
        module.mamba_chunk_scan_combined = kernel_twin  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    assert kernels.chunk_scan("cuda") is kernel_twin
    assert kernels.chunk_scan("cpu") is None, "they need a GPU"


@pytest.mark.parametrize("batch", [documents_batch(), documents_batch(row_len=15)], ids=["padded", "packed"])
def test_kernels_are_given_what_they_need(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    model = build(shape(implementation="mamba2"))
    expected = model(batch.input_ids, documents=batch.documents)
    calls = []

    def kernel(*arguments: Tensor, **options: Tensor) -> Tensor:
        calls.append(arguments)
        return kernel_twin(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mamba2, "chunk_scan", lambda device_type: kernel)
    torch.testing.assert_close(model(batch.input_ids, documents=batch.documents), expected)
    assert len(calls) == 2, "once a layer"
    state = model.make_state(len(batch.input_ids), 20)
    model(batch.input_ids, state=state)
    assert len(calls) == 2, "not where states are carried"

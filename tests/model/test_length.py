"""No text is longer than ``max_seq_len``, whether or not the positions of a model come to an end there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mixer_contract import build, documents_batch, shape, tokens

from nanollama.data.batch import collate
from nanollama.errors import UserError
from nanollama.training.loss import next_token_loss

SHORT = "reads at most 8 tokens and is given 9: set model.max_seq_len to 9 or more"


@torch.no_grad()
@pytest.mark.parametrize(
    "keys",
    [{}, {"positions": "learned"}],
    ids=["rotary", "learned"],
)
def test_longer_input_is_refused_in_a_sentence(keys: dict[str, object]) -> None:
    model = build(shape(max_seq_len=8, **keys))
    assert model(tokens(2, 8)).shape == (2, 8, 50)
    with pytest.raises(UserError, match=SHORT):
        model(tokens(2, 9))
    documents = torch.tensor([[0] * 8 + [1] * 7] * 2)  # each is short enough
    packed = model(tokens(2, 15), documents=documents)
    torch.testing.assert_close(packed[:, 8:], model(tokens(2, 15)[:, 8:]), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "keys", [{"positions": "none"}, {"implementation": "mingru"}], ids=["none", "recurrent"]
)
def test_where_positions_have_no_end_longer_input_is_read(keys: dict[str, object]) -> None:
    model, longer = build(shape(max_seq_len=8, **keys)), build(shape(max_seq_len=12, **keys))
    torch.testing.assert_close(model(tokens(2, 12)), longer(tokens(2, 12)), rtol=0, atol=0)
    model(tokens(2, 12), state=model.make_state(2, capacity=13))


@torch.no_grad()
@pytest.mark.parametrize("keys", [{}, {"positions": "learned"}], ids=["rotary", "learned"])
def test_a_longer_dialog_is_refused_before_it_is_read(keys: dict[str, object]) -> None:
    model = build(shape(max_seq_len=8, **keys))
    model(tokens(2, 8), state=model.make_state(2, capacity=9))  # the last of nine is written, not read
    with pytest.raises(UserError, match=SHORT):
        model.make_state(2, capacity=10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own imports
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # its own reading, after a break in Mamba2
@pytest.mark.parametrize("implementation", ["transformer", "mamba2"])
def test_a_compiled_model_does_the_same(implementation: str) -> None:
    model = build(shape(implementation=implementation, max_seq_len=16))
    compiled = torch.compile(next_token_loss, dynamic=True, backend="eager")
    for part in (documents_batch(row_len=15), documents_batch()):
        torch.testing.assert_close(compiled(model, part), next_token_loss(model, part))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_refuses_the_same() -> None:
    longer = collate([np.ones(18, dtype=np.int64)] * 2, [np.ones(18, dtype=bool)] * 2)
    compiled = torch.compile(next_token_loss, dynamic=True, backend="eager")
    with pytest.raises(UserError, match="reads at most 16 tokens and is given 17"):
        compiled(build(shape(max_seq_len=16)), longer)

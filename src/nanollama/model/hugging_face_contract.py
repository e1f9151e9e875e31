"""Does a model of transformers do what our data and our decoding ask of one? A few tokens tell, once.

No config says that a model lets tokens see those behind them, or that it heeds neither masks nor positions.
So it is tried on two rows of tokens: nothing is drawn from the random numbers of a run, no weight changes.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from nanollama.errors import UserError
from nanollama.model.protocol import LanguageModel
from nanollama.wording import first_sentence

T = TypeVar("T")

LONG, SHORT = 7, 5
"""Tokens of two documents in a row, or of two prompts side by side."""
N_TOKENS = LONG + SHORT
READ = "read a text from left to right"

Trial = Callable[[LanguageModel, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of a model, ids (2, T) and their logits (2, T, V): two tensors of logits that must be equal."""


def check_contract(model: LanguageModel, name: str, tolerance: float) -> None:
    """Try whole texts, packed documents, and rows that decode at positions of their own.

    Args:
        model: with weights; its modes are restored.
        name: how the user calls it.
        tolerance: difference of logits, as a share of the largest, up to which it is taken for rounding.

    Raises:
        UserError: the model fails at one of them.
    """
    if model.max_seq_len < N_TOKENS:
        return
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.vocab_size, (2, N_TOKENS), generator=generator).to(model.device)
    with _evaluating(model):
        logits = _done(name, READ, lambda: model(ids))
        for deed, trial in TRIALS.items():
            found, expected = _done(name, deed, partial(trial, model, ids, logits))
            if (found - expected).abs().max() > tolerance * logits.abs().max():
                raise _refused(f"{name} does not {deed}")


def _done(name: str, deed: str, do: Callable[[], T]) -> T:
    try:
        return do()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever the code of a model stumbles over
        raise _refused(f"{name} cannot {deed} ({first_sentence(error)})") from error


def _refused(what: str) -> UserError:
    return UserError(f"model: {what}, which is not supported; expected a model such as Llama or GPT-2.")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients; each module, for they may differ, then has the mode that it had.

    What a model makes of buffers in inference mode could not be learned with later.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _causal(model: LanguageModel, ids: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Another last token changes nothing before it."""
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % model.vocab_size
    return model(changed)[:, :-1], logits[:, :-1]


def _packed(model: LanguageModel, ids: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Two documents in a row are read as each alone."""
    row = torch.cat([ids[0, :LONG], ids[1, :SHORT]])[None]
    documents = torch.arange(2, device=ids.device).repeat_interleave(torch.tensor([LONG, SHORT]).to(ids))
    return model(row, documents=documents[None])[0], torch.cat([logits[0, :LONG], logits[1, :SHORT]])


def _decoded(model: LanguageModel, ids: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """A token behind prompts of different lengths, side by side, is read as in the whole texts."""
    lengths = torch.tensor([LONG, SHORT], device=ids.device)
    rows = torch.arange(2, device=ids.device)
    state = model.make_state(2, N_TOKENS)
    model(ids[:, :LONG], state=state.part(slice(0, 2), lengths))
    state.advance(lengths, LONG)
    return model(ids[rows, lengths][:, None], state=state)[:, 0], logits[rows, lengths]


TRIALS: dict[str, Trial] = {
    READ: _causal,
    "read packed documents as each alone": _packed,
    "write texts of different lengths side by side as each alone": _decoded,
}

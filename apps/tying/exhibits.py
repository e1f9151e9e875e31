"""What the explorer shows of a run: held-out text, with the masks that all runs are measured on."""

from __future__ import annotations

from apps.tying.data import held_out_batches, read_text
from apps.tying.settings import TyingConfig
from nanollama.report.attention.exhibits import MAX_SCORED, Exhibits, from_batch


def exhibits(config: TyingConfig) -> Exhibits:
    """The first examples of the split that is measured on."""
    text = read_text(config)
    split = config.measures.split
    (batch,) = held_out_batches(config, text, split, MAX_SCORED, MAX_SCORED)
    marks = {} if config.model.causal else {"[MASK]": "stands where a token was taken away, to be told"}
    return Exhibits(
        sequences=from_batch(batch, f"{split} example {{}}".format),
        where=f"held-out text, the split '{split}'",
        spell=lambda token: text.tokenizer.id_to_token(token) or str(token),
        marks=marks,
        in_place=not config.model.causal,
    )

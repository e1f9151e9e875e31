"""What the explorer shows of a run: held-out text, with the masks that all runs are measured on."""

from __future__ import annotations

from apps.tying.data import held_out_batches, held_out_examples, read_text
from apps.tying.settings import TyingConfig
from nanollama.report.attention.exhibits import MAX_SCORED, Exhibits, from_batch


def exhibits(config: TyingConfig) -> Exhibits:
    """Held-out examples, spread as those that are measured on, each called by its number in the split."""
    text = read_text(config)
    split = config.measures.split
    (batch,) = held_out_batches(config, text, split, MAX_SCORED, MAX_SCORED)
    numbers, _ = held_out_examples(config, text, split, MAX_SCORED)
    marks = {} if config.model.causal else {"[MASK]": "stands where a token was taken away, to be told"}
    return Exhibits(
        sequences=from_batch(batch, lambda row: f"{split} example {numbers[row]}"),
        where=f"held-out text, the split '{split}'",
        spell=lambda token: text.tokenizer.id_to_token(token) or str(token),
        marks=marks,
        in_place=not config.model.causal,
    )

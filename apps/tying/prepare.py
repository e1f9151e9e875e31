"""What the runs of a grid share, made before the first of them starts: the corpus, and its tokens.

Alone, a run makes what it misses; runs that start together would each fetch and tokenise the same text.
"""

from __future__ import annotations

from collections.abc import Sequence

from apps.tying.data import read_text
from apps.tying.settings import TyingConfig
from nanollama.config import Config


def prepare(configs: Sequence[Config]) -> None:
    """Make the text that runs of these configs read, each once.

    Raises:
        UserError: the text cannot be had, or has more kinds of tokens than a model.
    """
    seen = set()
    for config in configs:
        if isinstance(config, TyingConfig):
            needed = (config.text.model_dump_json(), config.model.vocab_size)
            if needed not in seen:
                read_text(config)
            seen.add(needed)

"""What the explorer shows of a run: sequences of its test."""

from __future__ import annotations

from apps.gssm.associative import draw
from apps.gssm.data_config import FIRST_TEST
from apps.gssm.recall_config import RecallDataConfig
from apps.gssm.settings import GssmConfig
from apps.gssm.source import build_source
from nanollama.report.attention.exhibits import MAX_SCORED, Exhibits, Shown


def exhibits(config: GssmConfig) -> Exhibits:
    """The first sequences of the test, of a graph or of associative recall."""
    data = config.data
    if isinstance(data, RecallDataConfig):
        return recall_exhibits(data)
    symbols = build_source(data).draw_test(MAX_SCORED).symbols.tolist()
    return Exhibits(
        sequences=tuple(
            Shown(f"test sequence {number}", tuple(row[:-1]), dict(enumerate(row[1:])))
            for number, row in enumerate(symbols)
        ),
        where="test sequences: symbols by number, each asked of those before it",
    )


def recall_exhibits(data: RecallDataConfig) -> Exhibits:
    """Pairs of a key and a value, then keys that are asked for."""
    test = draw(data, range(FIRST_TEST, FIRST_TEST + MAX_SCORED))
    rows = zip(*(part.tolist() for part in test), strict=True)
    return Exhibits(
        sequences=tuple(
            Shown(f"test sequence {number}", tuple(tokens), dict(zip(positions, answers, strict=True)))
            for number, (tokens, positions, answers) in enumerate(rows)
        ),
        where=f"test sequences: {data.n_pairs} keys with their values, then keys that are asked for",
        marks={
            "0": "fills; nothing is asked there",
            f"1 to {data.n_keys}": "keys",
            f"{data.n_keys + 1} to {2 * data.n_keys}": "values",
        },
    )

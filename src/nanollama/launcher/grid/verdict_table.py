"""The verdicts on the claims of a grid as a table, as sentences and as files in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nanollama.launcher.grid.expect import Expectation
from nanollama.launcher.grid.verdict import Verdict
from nanollama.measures import finite
from nanollama.monitor.files import write_atomically
from nanollama.report.tables import Table
from nanollama.wording import count

VERDICT = "verdict"


def missing_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """One sentence for each claim of which a finished run has no value."""
    for verdict in verdicts:
        if verdict.missing:
            measure, when = verdict.expectation.measure, verdict.expectation.when
            why = f"{measure} is no number there (null)"
            if when is not None:
                why = f"{when.measure} {when.bound} is not so at any evaluation where {measure} is a number"
            yield (
                f"The claim '{verdict.expectation.claim}' lacks "
                f"{count(len(verdict.missing), 'run')}, such as {verdict.missing[0]}: finished, but {why}."
            )


def changed_claims(expectations: Sequence[Expectation]) -> dict[str, str]:
    """Of each claim that is not as it was before anything ran, when and why it was changed."""
    return {claim.claim: claim.changed for claim in expectations if claim.changed is not None}


def changed_lines(changed: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each of `changed_claims`."""
    yield from (f"The claim '{claim}' was changed: {why.rstrip('.')}." for claim, why in changed.items())


def mark(word: str, is_changed: bool) -> str:
    """A verdict, with whether its claim is as it was before anything ran."""
    return f"{word}; claim changed" if is_changed else word


def verdict_table(verdicts: Sequence[Verdict], told: str = "") -> Table:
    """One row a claim.

    Args:
        verdicts: on each.
        told: which runs they are about, in a sentence.
    """
    rows = [
        (
            verdict.expectation.claim,
            verdict.expectation.subject,
            verdict.expectation.bound,
            verdict.shown,
            mark(verdict.word, verdict.expectation.changed is not None),
        )
        for verdict in verdicts
    ]
    n_tests = sum(verdict.expectation.has_p_value for verdict in verdicts)
    adjusted = f"; p values are adjusted for {count(n_tests, 'test')} (Holm)" if n_tests > 1 else ""
    caption = f"What had to come out; thresholds as the config states them{adjusted}. {told}".rstrip()
    return Table(caption, ("claim", "measure", "expected", "found", "verdict"), tuple(rows))


def write_verdicts(
    folder: Path, verdicts: Sequence[Verdict], told: str, seeds: Sequence[int], keys: Sequence[str]
) -> None:
    """Write ``verdict.md`` and ``verdict.json`` into the folder of a grid; without claims, remove them.

    Args:
        folder: of the grid, which may hold runs of other seeds too.
        verdicts: on its claims.
        told: which runs they are about, in a sentence.
        seeds: theirs.
        keys: typed, that say which they are.
    """
    words, numbers = folder / f"{VERDICT}.md", folder / f"{VERDICT}.json"
    if not verdicts:  # those of before are not about what else lies there now
        words.unlink(missing_ok=True)
        numbers.unlink(missing_ok=True)
        return
    table = verdict_table(verdicts, told)
    write_atomically(words, f"{table.caption}\n\n{table.to_markdown()}")
    listed = [
        {
            **verdict.expectation.model_dump(exclude_none=True),
            "values": verdict.values,
            "signs": [value.sign for value in verdict.found],
            "n_expected": verdict.n_expected,
            "missing": verdict.missing,
            "diverged": verdict.diverged,
            "together": verdict.together and verdict.together._asdict(),
            "p_value": verdict.p_value,
            "verdict": verdict.word,
            "seeds": seeds,
            "keys": keys,
        }
        for verdict in verdicts
    ]
    write_atomically(numbers, json.dumps(finite(listed), indent=2) + "\n")

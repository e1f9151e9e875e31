"""The explorer: ``nanollama report attention RUN [training.device=D]``, for any model of any study.

Writes ``attention.html`` into the run folder: what each head attends to on a few sequences, at checkpoints
spread over training, how well that fits named patterns, what the model answers, and what it answers when a
head is switched off or attends as a pattern says. Layers without attention maps, and the whole model, show
what a token matters to those behind it (`nanollama.model.influence`).

A study says by `nanollama.studies.Study.exhibits` which sequences and patterns are shown; one with a page
``attention`` of its own adds to this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PAGE = "attention"
OUTPUT = "attention.html"
DEVICE_KEY = "training.device="
USAGE = "usage: nanollama report attention RUN [training.device=D]"


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    from nanollama import studies
    from nanollama.entrypoint import guard
    from nanollama.errors import UserError

    def work() -> int | None:
        if {"--help", "-h"}.intersection(argv):
            print(USAGE)
            return None
        if not argv:
            raise UserError(USAGE)
        run, *keys = argv
        if (Path(run) / studies.RUN_CONFIG).is_file():
            study = studies.find_study(studies.study_of([str(Path(run) / studies.RUN_CONFIG)]))
            if PAGE in study.pages:
                return studies.run_verb_of(PAGE, run, keys)
        for key in keys:
            if not key.startswith(DEVICE_KEY):
                raise UserError(f"{key}: expected training.device=D; {USAGE}")
        from nanollama.report.attention.command import explore

        print(f"wrote {explore(Path(run), keys)}")
        return None

    return guard(work)

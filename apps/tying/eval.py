"""Examine a trained model: ``python -m apps.tying.eval CONFIG [key=value ...]``.

Prints its measures on held-out text, and writes them into ``measures.csv`` in the folder
``evaluations/step_<8 digits>_<hash of the config>`` of the run, beside the config.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import torch

from apps.tying.data import read_text
from apps.tying.measures import Examiner
from apps.tying.settings import EvalConfig, MeasuresConfig, TyingConfig
from nanollama.entrypoint import run_main
from nanollama.errors import UserError
from nanollama.measures import say_all
from nanollama.monitor.files import write_csv
from nanollama.monitor.successor import ENVIRONMENT
from nanollama.training.trained import Trained


def examine(trained: Trained[TyingConfig], measures: MeasuresConfig) -> dict[str, float]:
    """What a trained model measures on held-out text.

    Raises:
        UserError: the text is not the one that it was trained with.
    """
    text = read_text(trained.config)
    environment = json.loads((trained.folder / ENVIRONMENT).read_text(encoding="utf-8"))
    if environment.get("data") != dict(text.hashes):
        named = trained.config.text.dataset or ", ".join(map(str, trained.config.text.files))
        raise UserError(
            f"The text {named} is not what {trained.folder} was trained with, so what is held out of it may "
            "have been learned: restore it, or train anew."
        )
    examiner = Examiner(trained.config, measures, text)
    with torch.no_grad():
        return examiner.evaluate(trained.model, trained.step)


def run(config: EvalConfig) -> None:
    """Measure the newest checkpoint of a run."""
    trained = config.load(TyingConfig)
    found = examine(trained, config.measures)
    print(trained.title)
    for line in say_all(found):
        print(f"  {line}")
    path = config.make_folder(trained) / "measures.csv"
    write_csv(path, ["step", *found], [[trained.step, *found.values()]])
    print(f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(EvalConfig, run, argv, "Measure a trained model on held-out text.")


if __name__ == "__main__":
    sys.exit(main())

"""Did a finished run end where its config says? What ends it early, ``training.stop_when``, may have changed.

A run that has not finished goes on by another rule; one that has is worth what the rule it ended by is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanollama.config import Config
from nanollama.errors import UserError
from nanollama.monitor.files import read_json
from nanollama.monitor.remedies import ANEW, elsewhere
from nanollama.monitor.rows import RowFile
from nanollama.monitor.successor import EVALS, RESULT

KEY = "training.stop_when"


def check_decided(folder: Path, config: Config, result: Mapping[str, Any]) -> None:
    """Refuse a finished run that was ended early by another rule than the config's, or where it has none.

    Args:
        folder: of the run.
        config: that it shall be a run of.
        result: ``result.json``, which names the rule; it may be another than that of ``config.yaml``.

    Raises:
        UserError: it was.
    """
    decided, rule = result.get("decided"), _rule(config)
    if result.get("status") != "finished" or decided is None or (rule and rule.is_reason(decided)):
        return
    now = f"is {rule.words} now" if rule else "is null now"
    raise UserError(
        f"The run {folder} was ended after step {result.get('step')}, decided: {decided}; {KEY} {now}, and "
        f"would not have ended it so: {_remedy(folder, config)}."
    )


def check_undecided(folder: Path, started: Config, config: Config) -> None:
    """Refuse a run that was trained to its last step where another rule, of the config, had ended it before.

    Args:
        folder: of the run.
        started: its config when it began.
        config: that it shall be a run of.

    Raises:
        UserError: it was.
    """
    rule, result = _rule(config), read_json(folder / RESULT)
    is_whole = result.get("status") == "finished" and result.get("decided") is None
    if rule is None or rule == _rule(started) or not is_whole:
        return
    rows = [row for row in RowFile(folder / EVALS).read() if row["step"] < result["step"]]
    step = rule.first_step(rows)
    if step is not None:
        raise UserError(
            f"The run {folder} was trained to its last step, {result['step']}; {KEY} is {rule.words} now, "
            f"and would have ended it after step {step}: {_remedy(folder, config)}."
        )


def _remedy(folder: Path, config: Config) -> str:
    return f"put {KEY} back, {elsewhere(folder, config)}, {ANEW}"


def _rule(config: Config) -> Any:
    """The rule by which a run of the config ends early; None where there is none."""
    return getattr(getattr(config, "training", None), "stop_when", None)

"""A trained model comes back with the config that it was trained with, or with a word about it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from apps.composition.settings import CompositionConfig
from nanollama.training.trained import load_run
from tests.explorer_runs import write_handmade_run


@pytest.mark.parametrize(("was", "now", "told"), [("# ", "# ", 0), ("seed: 0", "seed: 1", 1)])
def test_a_config_that_was_edited_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, was: str, now: str, told: int
) -> None:
    """Another seed of the data holds out other sequences than those that were."""
    config = write_handmade_run(tmp_path / "run") / "config.yaml"
    text = f"# a remark\n{config.read_text()}"
    assert was in text
    config.write_text(text.replace(was, now))
    with caplog.at_level(logging.WARNING):
        load_run(CompositionConfig, tmp_path / "run")
    assert [record.args for record in caplog.records] == [(config, "step_00000100")] * told

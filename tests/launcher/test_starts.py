"""What a grid does to its models is refused before anything runs, where it cannot be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nanollama.errors import EXIT_USER_ERROR
from nanollama.launcher.grid.starts import check_starts
from nanollama.launcher.local.run import main
from nanollama.launcher.plan import read_grid

DEBUG = Path(__file__).parents[2] / "apps/composition/config/debug.yaml"


def write(folder: Path, arms: str, rest: str = "") -> str:
    path = folder / "grid.yaml"
    path.write_text(f"base: {DEBUG}\nname: g\nrun_dir: {folder / 'g'}\n{rest}\ngrid: {{arms: {{{arms}}}}}\n")
    return str(path)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (
            "a: {}, b: {starts_from: {arm: a, but: [hed.*]}}",
            r"run arm-b cannot be done: interventions\.0\.but: 'hed\.\*' matches no parameter",
        ),
        (
            "a: {}, b: {starts_from: {arm: a, parameters: [block.*]}}",
            r"run arm-b cannot be done: interventions\.0\.parameters: 'block\.\*' matches no",
        ),
        (
            "a: {model.d_model: 16}, b: {starts_from: a}",
            r"interventions\.0\.run: \S+ has shape \(.*16.*\) in the run arm-a and .* in the model",
        ),
        (
            "a: {model.n_layers: 1}, b: {starts_from: a}",
            r"interventions\.0\.run: the run arm-a has no parameter blocks\.1\.\S+, which the model has\.",
        ),
        (
            "a: {model.tied_embeddings: true}, b: {starts_from: a}",
            r"the run arm-a has no parameter head\.\S+, which the model has\.",
        ),
        (
            "a: {}, b: {starts_from: a, interventions: [{implementation: freeze, parameters: [hed.*]}]}",
            r"interventions\.1\.parameters: 'hed\.\*' matches no parameter",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arms: str, message: str
) -> None:
    for dry in (["--dry-run"], []):
        assert main([write(tmp_path, arms), *dry]) == EXIT_USER_ERROR
        said = capsys.readouterr()
        assert re.search(message, said.err), said.err
        assert not said.out and len(said.err.splitlines()) == 1
    assert not [*tmp_path.glob("g/*/*")]


def test_what_can_be_done_is_not_refused(tmp_path: Path) -> None:
    untie = "interventions: [{implementation: untie, at_step: 2}]"
    arms = (
        f"a: {{model.tied_embeddings: true, {untie}}}, b: {{starts_from: a}}, "
        "c: {starts_from: {arm: b, but: [embedding.*]}, model.vocab_size: 64}, d: {}"
    )
    check_starts(read_grid([write(tmp_path, arms)]))

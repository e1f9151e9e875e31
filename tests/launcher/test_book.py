"""The book of claims: every claim of every grid, with its verdict or what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanollama.cli.command import main as nanollama
from nanollama.errors import UserError
from nanollama.launcher.grid import book
from nanollama.launcher.plan import Plan, read_grid

CONFIG = Path(__file__).parents[2] / "apps/composition/config/causal.yaml"


@pytest.fixture(autouse=True)
def nothing_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def section(text: str, name: str) -> str:
    return text.split(f"### {name}\n")[1].split("###")[0]


def test_what_has_not_run_has_its_price_and_all_its_claims(capsys: pytest.CaptureFixture[str]) -> None:
    assert nanollama(["book", "composition"]) == 0
    found = section(capsys.readouterr().out, "causal")
    assert "Not yet run: 3 runs, 9,000 steps in all." in found
    plan = read_grid([str(CONFIG)])
    assert len(plan.expect) >= 6
    assert all(f"| {expectation.claim} " in found for expectation in plan.expect)
    assert "holds" not in found


def test_what_has_run_has_verdict_cost_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(plan: Plan) -> list[dict[str, object]]:
        if plan.name != "causal":
            return []
        measures = {expectation.measure: 1.0 for expectation in plan.expect}
        facts = {"status": "finished", "step": 3000, "seconds": 60.0, "commit": "abcdef0123456789"}
        return [{"run": run.name, **facts, **measures} for run in plan.runs]

    monkeypatch.setattr(book, "collect", collect)
    found = section(book.write_book(["composition"]), "causal")
    assert "3 of 3 runs finished, 0:03:00 of work; commit abcdef0." in found
    lines = {line.split(" | ")[0].strip("| "): line for line in found.splitlines() if line.startswith("| ")}
    assert "holds" in lines["sequences are right"]
    assert "MISSED" in lines["uniform maps leave chance"]


def test_runs_of_another_config_are_told_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(plan: Plan) -> list[dict[str, object]]:
        raise UserError("it is of another config.")

    monkeypatch.setattr(book, "collect", collect)
    found = section(book.write_book(["composition"]), "causal")
    assert "Not yet run" in found
    assert "is of no use: it is of another config." in found


def test_a_study_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert nanollama(["book", "compositoin"]) == 2
    assert "composition" in capsys.readouterr().err

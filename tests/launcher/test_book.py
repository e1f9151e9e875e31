"""The book of claims: every claim of every grid, with its verdict or what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanollama.cli.command import main as nanollama
from nanollama.config import dump_config
from nanollama.errors import UserError
from nanollama.launcher.grid import book
from nanollama.launcher.local import run
from nanollama.launcher.plan import Plan, read_grid

CONFIG = Path(__file__).parents[2] / "apps/composition/config/causal.yaml"


@pytest.fixture(autouse=True)
def nothing_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(book, "read_records", lambda study: [])


def section(text: str, name: str) -> str:
    return text.split(f"### {name}\n")[1].split("###")[0]


def test_what_has_not_run_has_its_price_and_all_its_claims(capsys: pytest.CaptureFixture[str]) -> None:
    assert nanollama(["book", "composition"]) == 0
    found = section(capsys.readouterr().out, "causal")
    assert "Not run here: 3 runs, 9,000 steps in all." in found
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


def test_what_a_grid_takes_is_told_by_the_runs_that_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = [("finished", 360.0), ("diverged", 36000.0)]

    def collect(plan: Plan) -> list[dict[str, object]]:
        measures = {expectation.measure: 1.0 for expectation in plan.expect}
        return [
            {"run": run.name, "status": status, "seconds": seconds, "commit": None, **measures}
            for run, (status, seconds) in zip(plan.runs, ended if plan.name == "causal" else [], strict=False)
        ]

    monkeypatch.setattr(book, "collect", collect)
    said = book.write_book(["composition"])
    assert "known to take 0.3 hours" in said, "three runs of six minutes"
    found = section(said, "causal")
    assert "1 of 3 runs finished, 1 diverged, 10:06:00 of work; commit not known." in found
    ended[1] = ("diverged", 1e300)
    assert "says that it took 1e+300 seconds" in section(book.write_book(["composition"]), "causal")


def test_runs_of_another_config_are_told_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(plan: Plan) -> list[dict[str, object]]:
        raise UserError("it is of another config.")

    monkeypatch.setattr(book, "collect", collect)
    found = section(book.write_book(["composition"]), "causal")
    assert "Not run here" in found
    assert "is of no use: it is of another config." in found


def test_a_study_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert nanollama(["book", "compositoin"]) == 2
    assert "composition" in capsys.readouterr().err


def test_fresh_seeds_say_for_how_many_each_claim_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = Path(__file__).parents[2] / "apps/composition/config/emergence.yaml"
    fresh = [100, 101, 102, 103]
    for one in read_grid([str(config), f"grid.seeds={fresh}"]).runs:
        (tmp_path / one.folder).mkdir(parents=True)
        (tmp_path / one.folder / "config.yaml").write_text(dump_config(one.config))

    def collect(plan: Plan) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for one in plan.runs if plan.name == "emergence" else ():
            seed = one.values["training.seed"]
            if seed in fresh:
                learned = 0.5 if seed == 103 else 1.0  # the last one has not learned
                facts = {"status": "finished", "step": 2000, "seconds": 60.0, "commit": "abcdef0123456789"}
                peak = 0.2 if seed == 101 else 1.0
                measures = {"test_accuracy_long": learned, "iteration_peakiness_long": peak}
                others = ("eoi_peakiness_long", "ideal_iteration_map_loss", "uniform_maps_over_chance")
                rows.append({"run": one.name, **facts, **measures, **dict.fromkeys(others, 0.01)})
        return rows

    monkeypatch.setattr(book, "collect", collect)
    found = section(book.write_book(["composition"]), "emergence")
    assert "Not run here: 9 runs" in found, "fresh seeds are not those of the config"
    assert "On 4 seeds that the config does not name, 100 to 103:" in found
    lines = {line.split(" | ")[0].strip("| "): line for line in found.split("On 4 seeds")[1].splitlines()}
    rates = {claim: line.split("|")[-2].strip() for claim, line in lines.items() if "|" in line}
    assert rates["polynomial iteration with chain of thought is learned"] == "3 of 4 [0.194, 0.994]"
    assert rates["its layer 1 is an iteration head"] == "3 of 4 [0.194, 0.994]"
    assert rates["an ideal map in layer 1 costs no accuracy"] == "3 of 3 [0.292, 1.000], 1 not told", (
        "given learning"
    )


def test_a_seed_of_several_runs_counts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three rates a seed: nine runs are of three seeds, and one run that misses is a seed that misses."""
    config = Path(__file__).parents[2] / "apps/gssm/config/recall.yaml"
    plan = read_grid([str(config), "grid.seeds=[100,101,102]"])
    for one in plan.runs:
        (tmp_path / one.folder).mkdir(parents=True)
        (tmp_path / one.folder / "config.yaml").write_text(dump_config(one.config))
    odd = [one.name for one in plan.runs if one.values["training.seed"] == 101]
    small = next(one.name for one in plan.runs if one.name in odd and one.values["model.d_state"] == 2)

    def collect(other: Plan) -> list[dict[str, object]]:
        facts = {"status": "finished", "step": 2000, "seconds": 60.0, "commit": "abcdef0123456789"}
        names = [one.name for one in other.runs] if other.name == plan.name else []
        return [{"run": name, **facts, "recall": 0.9 if name == small else 0.4} for name in names]

    monkeypatch.setattr(book, "collect", collect)
    found = section(book.write_book(["gssm"]), "recall").split("On 3 seeds")[1]
    rates = {
        line.split("|")[1].strip(): line.split("|")[-2].strip() for line in found.splitlines() if "|" in line
    }
    assert (
        rates["with a small state they are not recalled, whatever the learning rate"]
        == "2 of 3 [0.094, 0.992]"
    )
    assert rates["attention recalls all pairs"] == "0 of 3 [0.000, 0.708]"


def test_all_of_it_is_run_by_one_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed: list[str] = []
    monkeypatch.setattr(run, "main", lambda argv: typed.append(Path(argv[0]).stem) or len(typed) % 2)
    assert nanollama(["book", "composition", "--run"]) == 1, "a claim was missed"
    assert {"emergence", "causal", "width"} <= set(typed) and "debug" not in typed
    assert "# The book of claims" in capsys.readouterr().out


def place(plan: Plan, **edited: object) -> None:
    """The folders of runs as they are begun."""
    for one in plan.runs:
        one.folder.mkdir(parents=True)
        (one.folder / "config.yaml").write_text(dump_config(one.config.model_copy(update=edited)))


def test_a_trial_with_a_fresh_seed_and_other_keys_leaves_the_verdicts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place(read_grid([str(CONFIG), "grid.seeds=[100]"]))

    def collect(plan: Plan) -> list[dict[str, object]]:
        if plan.name == "causal" and plan.runs[0].values["training.seed"] == 100:
            raise UserError("it is of another config.")
        measures = {expectation.measure: 1.0 for expectation in plan.expect}
        facts = {"status": "finished", "step": 3000, "seconds": 60.0, "commit": "abcdef0123456789"}
        return [{"run": run.name, **facts, **measures} for run in plan.runs] if plan.name == "causal" else []

    monkeypatch.setattr(book, "collect", collect)
    found = section(book.write_book(["composition"]), "causal")
    assert "3 of 3 runs finished" in found and "holds" in found and "open:" not in found
    assert "Of seeds that the config does not name, what lies there is of no use: it is of another" in found


def test_the_seed_of_a_grid_that_names_none_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    place(read_grid([str(CONFIG.parents[2] / "memory/config/demo.yaml")]))
    assert "does not name" not in section(book.write_book(["memory"]), "demo")

"""What a grid brought out is kept with its study, and told without the runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from nanollama import studies
from nanollama.cli.command import main as nanollama
from nanollama.config import Config
from nanollama.launcher.grid import book, record
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.grid.identity import claims_hash, known_keys, runs_hash, values_hash
from nanollama.launcher.grid.made import commits_of
from nanollama.launcher.grid.record import FOLDER, Record, read_records
from nanollama.launcher.plan import Plan, read_grid
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.monitor.files import read_json
from nanollama.monitor.successor import ENVIRONMENT
from tests.launcher.test_book import section

APPS = Path(__file__).parents[2] / "apps"
NAME = "emergence"
FRESH = "grid.seeds=[100,101]"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a study whose folder may be written to, in a working directory where nothing has run."""
    study = tmp_path / "checkout/apps/composition"
    shutil.copytree(APPS / "composition/config", study / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies.Study, "folder", study)
    path = study / f"config/{NAME}.yaml"
    path.write_text(re.sub(r'    changed: "[^"]*"\n', "", path.read_text()))  # claims that nobody has changed
    return path


def rows_of(plan: Plan, finished: slice = slice(None)) -> list[dict[str, Any]]:
    """Each run did all that is claimed, but for a peak at seed 7, and for those that have not finished."""
    facts = {"step": 2000, "seconds": 60.0, "commit": "abcdef0123456789"}
    done = {run.name for run in plan.runs[finished]}
    return [
        {
            "run": run.name,
            "status": "finished" if run.name in done else "stopped",
            **facts,
            "test_accuracy_long": float(run.config.model.n_layers == 2 and run.config.data.chain_of_thought),  # type: ignore[attr-defined]
            "iteration_peakiness_long": 0.2 if run.values["training.seed"] == 7 else 1.0,
            "eoi_peakiness_long": 1.0,
            "ideal_iteration_map_loss": 0.0,
            "uniform_maps_over_chance": 0.0,
        }
        for run in plan.runs
    ]


def test_what_is_recorded_is_told_without_the_runs(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config), "local.n_jobs=2"]) == 0
    assert nanollama(["grid", "record", str(config), FRESH, "local.n_threads=1"]) == 0
    capsys.readouterr()
    assert nanollama(["book", "composition"]) == 0
    book = capsys.readouterr().out
    assert "1 grid of" in book and "known to take 0.1 hours" in book, "nine runs of a minute"
    found = section(book, NAME)
    assert "Not run here: 9 runs" in found and "open:" not in found
    assert "9 runs, seeds 6, 7, 8, 0:09:00" in found.replace("seeds 6 to 8", "seeds 6, 7, 8")
    assert f"with `{FRESH}`: 6 runs, seeds 100, 101" in found and "commit abcdef0." in found
    assert "n_jobs" not in found and "n_threads" not in found, "such keys change no result"
    lines = [line for line in found.splitlines() if line.startswith("| its layer 1 is")]
    assert [line.split("|")[-2].strip() for line in lines] == ["MISSED", "holds"]
    assert "2 of 3 [0.094, 0.992]" in lines[0] and "2 of 2 [0.158, 1.000]" in lines[1]


def test_it_says_where_and_in_which_format(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    made = {"hardware": {"device": "cpu"}, "versions": {"torch": "2.13.0"}, "precision": ["float32"]}
    runs = read_grid([str(config)]).runs
    for run in runs:
        run.folder.mkdir(parents=True)
        (run.folder / "environment.json").write_text(json.dumps(made))
    assert "of work on cpu in float32; torch 2.13.0," in read_after(config)
    old = {name: value for name, value in made.items() if name != "precision"}
    (runs[0].folder / "environment.json").write_text(json.dumps(old))
    some = "of work on cpu in float32, of some runs format not known; torch 2.13.0,"
    assert some in read_after(config)
    for run in runs:
        (run.folder / "environment.json").write_text(json.dumps(old))
    assert "of work on cpu, format not known; torch 2.13.0," in read_after(config)


def test_all_starts_of_a_run_are_told_of(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was gone on with elsewhere, by other code, was not made by its first start alone."""

    def start(commit: str, torch: str, device: str, **code: Any) -> dict[str, Any]:
        return {"commit": commit * 40, **code, "hardware": {"device": device}, "versions": {"torch": torch}}

    first = start("a", "2.13.0", "cpu", diff="", untracked={})
    later = [
        start("b", "2.14.0", "cuda"),
        start("c", "2.13.0", "cpu", diff=None, untracked={"src/x.py": "0"}),
    ]
    monkeypatch.setattr(record, "collect", lambda plan: [{**row, "commit": of(row)} for row in rows_of(plan)])
    folders = {run.name: run.folder for run in read_grid([str(config)]).runs}

    def of(row: dict[str, Any]) -> str | None:
        return commits_of(read_json(folders[row["run"]] / ENVIRONMENT))

    for folder in folders.values():
        folder.mkdir(parents=True)
        (folder / "environment.json").write_text(json.dumps({**first, "resumed": later}))
    told = read_after(config)
    assert "on cpu, cuda," in told and "torch 2.13.0, 2.14.0, commit aaaaaaa, bbbbbbb, ccccccc+." in told
    (folder / "environment.json").write_text(json.dumps({**first, "resumed": [{"commit": None}]}))
    assert commits_of(read_json(folder / ENVIRONMENT)) == f"{'a' * 40}, not known"
    assert "commit aaaaaaa, bbbbbbb, ccccccc+, not known." in read_after(config)
    (folder / "environment.json").write_text(json.dumps({"resumed": [{"commit": None}]}))
    assert commits_of(read_json(folder / ENVIRONMENT)) is None, "of no start"


def test_a_run_that_diverged_is_recorded_as_one(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def collect(plan: Plan) -> list[dict[str, Any]]:
        first, *others = rows_of(plan)
        return [{**first, "status": "diverged"}, *others]

    monkeypatch.setattr(record, "collect", collect)
    assert "9 runs, 1 of them diverged, seeds" in read_after(config)
    found = section(book.write_book(["composition"]), NAME)
    (line,) = [line for line in found.splitlines() if line.startswith("| polynomial iteration with")]
    assert "2 of 3 [0.094, 0.992], 1 diverged" in line and "MISSED: 1 of 3 diverged" in line


def read_after(config: Path) -> str:
    """What the one record says after the grid has been recorded."""
    assert nanollama(["grid", "record", str(config)]) == 0
    (found,) = read_records(config.parents[1])
    return found.told


def test_claims_that_have_changed_since_are_said(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config)]) == 0
    assert nanollama(["book", "composition"]) == 0
    assert "something else since" not in capsys.readouterr().out
    config.write_text(config.read_text().replace("at_least: 0.95", "at_least: 0.9"))
    assert nanollama(["book", "composition"]) == 0
    assert "Its config claims something else since." in section(capsys.readouterr().out, NAME)


def since(config: Path, *keys: str) -> str:
    """What the one record says of the config as it is now."""
    (found,) = read_records(config.parents[1])
    plan = read_grid([str(config), *found.keys, *keys])
    assert found.is_of(plan) == ("else" not in found.since(plan))
    return found.since(plan)


TRAINS, CLAIMS = (f"Its config {verb} something else since." for verb in ("trains", "claims"))
SINCE = [
    (["training.n_steps=10"], TRAINS),
    (["model.d_model=16"], TRAINS),
    (["grid.seeds=[6,7,9]"], TRAINS),
    (["grid.seeds=[6,7]"], TRAINS),
    (["expect.0.runs={training.seed: 6}"], CLAIMS),
    (["expect.0.given={measure: test_accuracy, at_least: 0}"], CLAIMS),
    (["expect.0.minus={model.n_layers: 1}", "expect.0.measure=test_accuracy_long"], CLAIMS),
    (["run_dir=there", "training.device=cpu", "local.n_jobs=2", "local.n_threads=1"], ""),
    (["name=other", "training.checkpoint.keep=1", "training.log_every=7"], ""),
    (["grid.seeds=[8,7,6]"], ""),
]


def test_a_config_that_has_changed_since_is_noticed(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config)]) == 0
    assert [since(config, *keys) for keys, _ in SINCE] == [said for _, said in SINCE]
    assert since(config) == ""


CHANGED = "expect.0.changed='2026-11-27, after the results: why'"


def test_a_claim_that_was_changed_is_told_with_what_is_recorded(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the record or by the config; that it was does not make it another claim."""
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config)]) == 0
    assert since(config, CHANGED) == ""
    assert "claim changed" not in section(book.write_book(["composition"]), NAME)
    claims = read_grid([str(config)]).expect
    said = f"- The claim '{claims[0].claim}' was changed: 2026-11-27, after the results: why."
    text = config.read_text()
    config.write_text(
        text.replace("- claim: ", "- changed: '2026-11-27, after the results: why'\n    claim: ", 1)
    )
    found = section(book.write_book(["composition"]), NAME)
    assert found.count("; claim changed") == 1 and said in found.splitlines()
    config.write_text(config.read_text().replace("at_least: 0.95", "at_least: 0.9"))
    assert "; claim changed" not in section(book.write_book(["composition"]), NAME), "recorded is the old one"
    config.write_text(text)
    assert nanollama(["grid", "record", str(config), CHANGED]) == 0
    found = section(book.write_book(["composition"]), NAME)
    assert found.count("; claim changed") == 1 and said in found.splitlines()


def test_a_record_of_before_is_read_and_compared_as_far_as_it_goes(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config)]) == 0
    path = config.parents[1] / FOLDER / f"{NAME}.json"
    whole = json.loads(path.read_text())
    old = {name: value for name, value in whole.items() if name not in ("values_hash", "known_keys")}
    path.write_text(json.dumps(old))
    assert [since(config, *keys) for keys, _ in SINCE] == [said for _, said in SINCE], "by its other hash"
    path.write_text(json.dumps({k: value for k, value in old.items() if not k.endswith("_hash")}))
    unknown = "Whether its config trains the same is not known."
    assert since(config) == since(config, "training.n_steps=10") == unknown, "it does not tell"
    assert since(config, "grid.seeds=[6,7]") == "Its config trains something else since."


def test_a_record_with_keys_is_compared_with_its_config_under_them(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config), FRESH, "model.d_model=64"]) == 0
    assert since(config) == ""
    assert "since." not in section(book.write_book(["composition"]), NAME)
    (found,) = read_records(config.parents[1])
    monkeypatch.setattr(book, "read_records", lambda study: [found.model_copy(update={"keys": ["no.key=1"]})])
    assert "does not take these keys any more." in section(book.write_book(["composition"]), NAME)


class Section(Config):
    width: int = 1
    place: Path | None = None


class Before(Config):
    rate: float = 0.1
    section: Section = Section()
    sections: tuple[Section, ...] = (Section(), Section(width=2))


class WithMore(Before):
    more: int = 0


class OtherDefault(Before):
    rate: float = 0.2


class Without(Config):
    section: Section = Section()
    sections: tuple[Section, ...] = (Section(), Section(width=2))


def test_a_default_that_has_changed_is_noticed_and_a_new_key_is_not() -> None:
    def plan(config: Config) -> Plan:
        runs = [GridRun("r", Path("r"), config, {})]
        return Plan("g", Path("g"), "apps.memory.train", runs, "seed", False, LocalConfig(), SlurmConfig())

    before = plan(Before())
    keys = known_keys(before)
    assert keys == ["rate", "section.place", "section.width", "sections.*.place", "sections.*.width"]

    def is_same(config: Config) -> bool:
        return values_hash(plan(config), keys) == values_hash(before, keys)

    assert is_same(WithMore()) and not is_same(WithMore(more=1))
    assert not is_same(OtherDefault()) and is_same(OtherDefault(rate=0.1))
    assert runs_hash(plan(OtherDefault())) == runs_hash(before), "which it does not notice"
    assert not is_same(Before(section=Section(width=3)))
    assert not is_same(Before(sections=(Section(), Section(width=3))))
    assert not is_same(Before(sections=(Section(),)))
    assert is_same(Before(section=Section(place=Path("there"))))
    assert values_hash(plan(Without()), keys) is None, "it cannot tell"


def test_a_record_is_held_to_the_values_it_knows(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config)]) == 0
    path = config.parents[1] / FOLDER / f"{NAME}.json"
    whole = json.loads(path.read_text())
    assert "training.optimizer.learning_rate" in whole["known_keys"]
    path.write_text(json.dumps({**whole, "values_hash": "0" * 12}))
    assert since(config) == TRAINS, "some default was another one"
    gone = [*whole["known_keys"], "training.gone"]
    path.write_text(json.dumps({**whole, "values_hash": "0" * 12, "known_keys": gone}))
    assert since(config) == "" and since(config, "training.n_steps=10") == TRAINS


@pytest.mark.parametrize("why", ["claims nothing any more", "is no config of the study any more"])
def test_what_is_recorded_of_a_config_that_the_book_does_not_have_is_told(
    why: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config)]) == 0
    (found,) = read_records(config.parents[1])
    if "nothing" in why:
        config.write_text(config.read_text().split("expect:")[0])
    else:
        config.rename(config.with_name("renamed.yaml"))
    said = book.write_book(["composition"]).splitlines()
    held = sum(told.verdict == "holds" for told in found.claims)
    assert said[-1] == f"- `{NAME}` {why}. {found.told} {held} of {len(found.claims)} claims held."
    for entry in (config.parent).glob("*.yaml"):
        entry.unlink()
    assert f"- `{NAME}` is no config" in book.write_book(["composition"]), "in a chapter of its own"


def test_only_what_runs_alike_tells_what_a_grid_takes(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config), "training.n_steps=20"]) == 0
    assert "known to take" not in book.write_book(["composition"])
    assert nanollama(["grid", "record", str(config), FRESH]) == 0
    assert "1 grid of" in (said := book.write_book(["composition"])) and "known to take 0.1 hours" in said
    config.write_text(config.read_text().replace("eval_every: 500", "n_steps: 9000"))
    assert "known to take" not in book.write_book(["composition"]), "it trains for longer by now"


def test_the_hash_of_runs_is_that_of_their_contents_wherever_they_lie(tmp_path: Path) -> None:
    """The run that it needs has a hash as well."""
    config = str(APPS / "memory/config/forgetting.yaml")
    assert read_grid([config]).needed
    plain = runs_hash(read_grid([config]))
    for keys, is_same in (
        ([f"run_dir={tmp_path}/x", f"data_root={tmp_path}/y", "training.device=cpu"], True),
        (["training.batch_size=3"], False),
        (["text.seq_len=32"], False),
    ):
        assert (runs_hash(read_grid([config, *keys])) == plain) == is_same, keys


@pytest.mark.parametrize(
    ("argv", "finished", "said"),
    [
        ([], slice(0, 8), "8 of 9 runs finished or diverged, and only a whole grid is recorded"),
        (["expect=[]"], slice(None), "claims nothing"),
    ],
)
def test_what_says_nothing_is_not_recorded(
    config: Path,
    argv: list[str],
    finished: slice,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(record, "collect", lambda plan: rows_of(plan, finished))
    assert nanollama(["grid", "record", str(config), *argv]) == 2
    assert said in capsys.readouterr().err
    assert not (config.parents[1] / FOLDER).exists()


def test_a_config_from_elsewhere_is_not_recorded(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(config.parent, tmp_path / "mine")
    assert nanollama(["grid", "record", f"mine/{NAME}.yaml"]) == 2
    assert f"mine/{NAME}.yaml is no config of" in capsys.readouterr().err


def test_no_time_that_cannot_be_is_recorded(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "collect", rows_of)
    assert nanollama(["grid", "record", str(config)]) == 0
    path = config.parents[1] / FOLDER / f"{NAME}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 1e300}))
    assert nanollama(["book", "composition"]) == 2
    assert f"{path} is no record as" in capsys.readouterr().err

    def collect(plan: Plan) -> list[dict[str, Any]]:
        return [{**row, "seconds": 1e300} for row in rows_of(plan)]

    monkeypatch.setattr(record, "collect", collect)
    assert nanollama(["grid", "record", str(config)]) == 2
    assert "says that it took 1e+300 seconds" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"config": "emergence"}'])
def test_a_file_that_is_no_record_is_named(
    text: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config.parents[1] / FOLDER / f"{NAME}.json"
    path.parent.mkdir()
    path.write_text(text)
    assert nanollama(["book", "composition"]) == 2
    assert f"{path} is no record as `nanollama grid record` writes it" in capsys.readouterr().err


# Records of claims that were changed since, as the config says of each: the hash of the claims of now.
CLAIMED_OTHERWISE = {"forgetting-b12b0450": "e2bcd7c3f40f"}


@pytest.mark.parametrize("path", sorted(APPS.glob(f"*/{FOLDER}/*.json")), ids=lambda path: path.stem)
def test_what_is_committed_is_of_its_config(path: Path) -> None:
    """A claim that is changed has to be judged anew."""
    found = Record.model_validate_json(path.read_text())
    assert found in read_records(path.parents[1])
    plan = read_grid([str(path.parents[1] / f"config/{found.config}.yaml"), *found.keys])
    assert len(plan.runs) == found.n_runs
    if path.stem not in CLAIMED_OTHERWISE:
        assert found.is_of(plan)
        return
    assert found.trains_as(plan) and claims_hash(plan) == CLAIMED_OTHERWISE[path.stem]
    judged = {(told.claim, told.measure, told.expected) for told in found.claims}
    others = [claim for claim in plan.expect if (claim.claim, claim.subject, claim.bound) not in judged]
    assert others and all(claim.changed for claim in others)

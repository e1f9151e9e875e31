"""The demo: one model learns to ask a database, one memorises; which of them knows people it never met?

``python -m apps.memory.demo [CONFIG] [key=value ...]`` writes the data, trains both models, examines them and
leaves table, figures and one page in ``runs/demo``. Safe to interrupt and run again: what is finished stays.
Exit code 0 if the expected recall comes out, 1 if not.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.memory import train
from apps.memory.dataset.generate import count_people, write_dialogs, write_people
from apps.memory.dataset.paths import dialogs_path, people_path
from apps.memory.dataset.sql_db import ensure_database
from apps.memory.demo_report import ARMS, Arm, Verdict, judge, write_report
from apps.memory.recall import build_recall
from apps.memory.samples import pick_samples
from apps.memory.settings import DemoConfig, MemoryConfig
from nanollama.config import config_hash
from nanollama.entrypoint import run_main
from nanollama.errors import EXIT_FAILED, UserError
from nanollama.monitor.files import write_atomically
from nanollama.monitor.log import RunLog
from nanollama.report.runs import DIALOGS, read_run, write_samples
from nanollama.training.trained import load_run

DEFAULT_CONFIG = "apps/memory/config/demo.yaml"
EXAMINATION = "examination.json"
LOG = "log.txt"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or ("=" in arguments[0] and not arguments[0].startswith("config=")):
        arguments = [DEFAULT_CONFIG, *arguments]
    missed: list[Verdict] = []

    def run_and_judge(config: DemoConfig) -> None:
        missed.extend(verdict for verdict in run(config) if not verdict.holds)

    code = run_main(
        DemoConfig, run_and_judge, arguments, "Compare a model that asks with one that memorises."
    )
    return code or (EXIT_FAILED if missed else code)


def run(config: DemoConfig) -> list[Verdict]:
    """Do what is not done yet, and show all of it; returns what came out beside what was expected."""
    began = time.perf_counter()
    settings = (config.in_tool, config.in_weight)
    configs = [config.arm(arm, name) for arm, name in zip(settings, ARMS, strict=True)]
    log = _open_log(config.folder)
    log.say(f"Demo in {config.folder}: data, two models, one comparison.")
    _write_data(config, log)
    arms = []
    for name, arm in zip(ARMS.values(), configs, strict=True):
        log.say(
            f"{name}: training on {arm.data.n_people:,} people, {arm.training.n_steps:,} steps "
            f"(lines also in {arm.folder / 'log.txt'})"
        )
        train.run(arm)
        measures = _examine(config, arm, name, log)
        arms.append(Arm(name, arm, read_run(arm.folder, name), measures))
    verdicts = judge(config.expected, arms)
    page = write_report(config.folder, arms, verdicts, log)
    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    log.say(f"Done in {minutes} min {seconds} s. Everything is on one page: {page}")
    return verdicts


def _open_log(folder: Path) -> RunLog:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOG).touch()
    except OSError as error:
        raise UserError(
            f"Cannot write {folder / LOG}: {error.strerror}; "
            "name a folder that can be written to as run_dir=DIR."
        ) from None
    return RunLog(folder / LOG)


def _write_data(config: DemoConfig, log: RunLog) -> None:
    """People, both kinds of dialogs and the database, where they are not there yet."""
    root, n_people = config.data_root, config.n_people
    began = time.perf_counter()
    writers = {
        people_path(root): lambda: write_people(root, n_people),
        dialogs_path(root, "qa"): lambda: write_dialogs(root, "qa", n_people),
        dialogs_path(root, "qatool"): lambda: write_dialogs(root, "qatool", n_people),
    }
    for path, write in writers.items():
        if path.exists() and count_people(path) >= n_people:
            log.say(f"kept {path}: it holds {count_people(path):,} people")
        else:
            log.say(str(write()))
    log.say(f"database: {ensure_database(root, n_people)}")
    log.say(f"data of {n_people:,} people in {time.perf_counter() - began:.1f} s")


def examined_with(config: DemoConfig, arm: MemoryConfig) -> dict[str, Any]:
    """What an examination depends on, kept beside its measures."""
    return {"config_hash": config_hash(arm), "recall": config.recall.model_dump(mode="json")}


def kept_examination(folder: Path, made_with: Mapping[str, Any]) -> dict[str, float] | None:
    """The measures of an earlier examination made with the same things, if there is one."""
    path = folder / EXAMINATION
    if not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    same = all(kept.get(key) == value for key, value in made_with.items())
    return kept["measures"] if same else None


def _examine(config: DemoConfig, arm: MemoryConfig, name: str, log: RunLog) -> dict[str, float]:
    """The final examination of a trained model, kept in its folder beside sample dialogs."""
    made_with = examined_with(config, arm)
    kept = kept_examination(arm.folder, made_with)
    if kept is not None:
        log.say(f"{name}: examined before, see {arm.folder / EXAMINATION}")
        return kept
    log.say(f"{name}: examining on {config.recall.n_people:,} people of each set, four questions each")
    began = time.perf_counter()
    model = load_run(MemoryConfig, arm.folder, ["training.device=cpu"]).model
    with build_recall(arm.changed(recall=config.recall)) as recall:
        answers = recall.ask(model)
        found = recall.summarise(answers, model.n_params())
    measures = {key: value for key, value in found.items() if math.isfinite(value)}
    write_samples(arm.folder / DIALOGS, pick_samples(answers))
    text = json.dumps({**made_with, "measures": measures}, indent=2)
    write_atomically(arm.folder / EXAMINATION, text + "\n")
    log.say(f"{name}: examined in {time.perf_counter() - began:.1f} s")
    return measures


if __name__ == "__main__":
    sys.exit(main())

"""The folder of a run: made once, safe to run again, owned by one process at a time."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nanollama.config import Config, config_hash, dump_config, first_difference, load_config
from nanollama.distributed import World, open_world
from nanollama.errors import ConfigError, UserError
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.monitor.environment import describe_environment
from nanollama.monitor.files import write_atomically
from nanollama.monitor.log import RunLog
from nanollama.monitor.rows import RowFile

logger = logging.getLogger(__name__)

CONFIG, ENVIRONMENT, METRICS, EVALS = "config.yaml", "environment.json", "metrics.jsonl", "evals.jsonl"
CHECKPOINTS, RESULT, LOG, LOCK = "checkpoints", "result.json", "log.txt", ".lock"
FILES = (CONFIG, ENVIRONMENT, METRICS, EVALS, RESULT, LOG)

# Keys that say where, how long and how fast a run computes. A run may go on with other values: up to rounding (device,
# compile, n_accumulation) its numbers stay the same.
MAY_DIFFER = frozenset(
    {
        "run_dir",
        "overwrite",
        "training.device",
        "training.compile",
        "training.n_accumulation",
        "training.n_prefetch",
        "training.max_minutes",
        "training.checkpoint",
        "training.track",
    }
)

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class TrainResult:
    """The final row of a run, ``result.json``.

    Args:
        status: ``finished``, ``preempted`` (run again to go on) or ``diverged`` (a loss was not finite).
        step: optimizer steps done.
        seconds: spent so far, over all processes in time.
        n_params: parameters of the model, tied ones once.
        metrics: the last logged loss and the last evaluation.
        config_hash: of the config in ``config.yaml``.
    """

    status: str
    step: int
    seconds: float
    n_params: int
    metrics: dict[str, Any]
    config_hash: str


@dataclass(frozen=True)
class Run:
    """An open run folder.

    Args:
        folder: where it is.
        world: the processes of this run; rank 0 is the only one that writes.
        config_hash: of the config in ``config.yaml``.
        log: says things to the terminal and to ``log.txt``.
    """

    folder: Path
    world: World
    config_hash: str
    log: RunLog
    metrics: RowFile = field(init=False)
    evals: RowFile = field(init=False)
    checkpoints: Checkpointer = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", RowFile(self.folder / METRICS))
        object.__setattr__(self, "evals", RowFile(self.folder / EVALS))
        object.__setattr__(self, "checkpoints", Checkpointer(self.folder / CHECKPOINTS, self.config_hash))

    @property
    def result(self) -> TrainResult | None:
        """The result once the run is finished, None before."""
        result = read_result(self.folder)
        return result if result is not None and result.status == "finished" else None

    def finish(self, status: str, step: int, seconds: float, n_params: int) -> TrainResult:
        """Write ``result.json`` from the last rows."""
        rows = {**self.metrics.last(), **self.evals.last()}
        names = ["loss", *(key for key in self.evals.last() if key != "step")]
        metrics = {name: rows[name] for name in names if name in rows}
        result = TrainResult(status, step, round(seconds, 3), n_params, metrics, self.config_hash)
        if self.world.is_main:
            write_atomically(self.folder / RESULT, json.dumps(asdict(result), indent=2) + "\n")
        return result

    def record_data(self, hashes: Mapping[str, str]) -> None:
        """Note the hashes of the data in ``environment.json``.

        Raises:
            UserError: the run was started with other data.
        """
        path = self.folder / ENVIRONMENT
        environment = json.loads(path.read_text(encoding="utf-8"))
        before = environment.get("data", dict(hashes))
        changed = [name for name in sorted({*before, *hashes}) if before.get(name) != hashes.get(name)]
        if changed:
            raise UserError(
                f"The data {changed[0]} has changed since the run {self.folder} was started: restore it, choose "
                "another run_dir, or start anew with overwrite=true."
            )
        if self.world.is_main and "data" not in environment:
            write_atomically(path, json.dumps({**environment, "data": dict(hashes)}, indent=2) + "\n")


def read_result(folder: Path) -> TrainResult | None:
    """``result.json`` of a run folder, None when there is none."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        return TrainResult(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not the result of a run ({error}): remove it.") from error


@contextmanager
def open_run(
    config: Config,
    folder: Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    may_differ: Collection[str] = MAY_DIFFER,
) -> Iterator[Run]:
    """Open the folder of a run, to start it or to go on with it.

    Args:
        config: everything about the run; its resolved form is written to ``config.yaml``.
        folder: made when it is not there; with several machines, on a disk they share.
        device: see `nanollama.distributed.choose_device`.
        overwrite: remove what an earlier run wrote here, and nothing else.
        may_differ: dotted keys whose value may have changed since the run was started.

    Raises:
        UserError: another process is using the folder, or it belongs to another config.
    """
    with ExitStack() as stack:
        world = stack.enter_context(open_world(device))
        started = config
        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_lock(folder))
            if overwrite:
                remove_run(folder)
            started = _claim(folder, config, may_differ)
        world.wait()
        if not world.is_main:
            started = load_config(type(config), [str(folder / CONFIG)])
        log = RunLog(folder / LOG if world.is_main else None)
        stack.enter_context(log.listen())
        run = Run(folder, world, config_hash(started), log)
        if world.is_main:
            run.checkpoints.clean()
            _record_environment(run)
        world.wait()
        if run.result is not None:
            logger.info("%s is finished: nothing to do (overwrite=true starts anew).", folder)
        yield run


def remove_run(folder: Path) -> None:
    """Remove the files that a run writes into its folder; files of any other name stay."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    Checkpointer(folder / CHECKPOINTS, config_hash="").remove_all()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, however it ends."""
    path = folder / LOCK
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise UserError(
                f"The run folder {folder} is in use by {owner}: wait for it to end, or choose another run_dir."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _claim(folder: Path, config: C, may_differ: Collection[str]) -> C:
    """The config the folder's run was started with: the one given, when the folder is new."""
    path = folder / CONFIG
    if not path.exists():
        stray = [name for name in (METRICS, EVALS, CHECKPOINTS, RESULT) if (folder / name).exists()]
        if stray:
            raise UserError(
                f"{folder} holds {stray[0]} of a run but no {CONFIG}: choose another run_dir, or start anew with "
                "overwrite=true."
            )
        # Running the written config again must go on, not start anew.
        stored = config.model_copy(
            update={"overwrite": False} if "overwrite" in type(config).model_fields else {}
        )
        write_atomically(path, dump_config(stored))
        return stored
    try:
        stored = load_config(type(config), [str(path)])
    except ConfigError as error:
        raise UserError(
            f"{folder} belongs to a run of another kind or version: choose another run_dir, or start anew with "
            f"overwrite=true. Its config does not fit: {error}"
        ) from error
    difference = first_difference(_with_keys_of(stored, config, may_differ), config)
    if difference is not None:
        raise UserError(
            f"{folder} belongs to another config: {difference}. Choose another run_dir, or start anew with "
            "overwrite=true."
        )
    return stored


def _with_keys_of(config: C, other: C, keys: Collection[str]) -> C:
    """The config with the other's values at dotted keys; keys it does not have are passed over."""
    update: dict[str, Any] = {}
    for name in type(config).model_fields:
        value, inner = (
            getattr(config, name),
            [key.partition(".")[2] for key in keys if key.startswith(f"{name}.")],
        )
        if name in keys:
            update[name] = getattr(other, name)
        elif inner and isinstance(value, Config) and type(value) is type(getattr(other, name)):
            update[name] = _with_keys_of(value, getattr(other, name), inner)
    return config.model_copy(update=update)


def _record_environment(run: Run) -> None:
    """Write ``environment.json``; of a run that goes on, add what it goes on with."""
    if run.result is not None:
        return
    path = run.folder / ENVIRONMENT
    now = describe_environment(run.world.device, run.world.world_size)
    if path.exists():
        environment = json.loads(path.read_text(encoding="utf-8"))
        if environment["commit"] != now["commit"]:
            logger.warning(
                "The run was started at commit %s and goes on at %s.", environment["commit"], now["commit"]
            )
        environment["resumed"] = [*environment.get("resumed", []), now]
    else:
        environment = now
    write_atomically(path, json.dumps(environment, indent=2) + "\n")

"""The folder of a run: made once, safe to run again, owned by one run at a time."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from nanollama.config import Config, dump_config, file_hash, first_difference, load_config
from nanollama.errors import ConfigError, UserError
from nanollama.monitor import checkpoint
from nanollama.monitor.checkpoint import Checkpointer
from nanollama.monitor.ending import check_decided, check_undecided
from nanollama.monitor.files import read_json, read_text, remove_leftovers, write_atomically
from nanollama.monitor.locks import hold_folder
from nanollama.monitor.log import RunLog
from nanollama.monitor.notes import check_noted, note_hashes, note_precision, note_start
from nanollama.monitor.remedies import ANEW, elsewhere
from nanollama.monitor.rows import RowFile
from nanollama.monitor.successor import (
    CONFIG,
    DIALOGS,
    ENVIRONMENT,
    EVALS,
    LOG,
    METRICS,
    RESULT,
    check_own,
    drop_replaced,
    holds_run,
    succeed,
)
from nanollama.precision import Precision
from nanollama.wording import nanollama_command

if TYPE_CHECKING:  # looking at runs does not wait for torch
    from nanollama.distributed import World

logger = logging.getLogger(__name__)

LOCK = ".lock"

# Keys that say where, how long and how fast a run computes. It may go on with other values: its numbers
# stay the same up to rounding (device, compile, gradient_checkpointing, n_accumulation) and, with dropout, up
# to the draw of the masks. By what rule a finished run has ended, see `nanollama.monitor.ending`.
MAY_DIFFER = frozenset(
    {
        "run_dir",
        "overwrite",
        "model.gradient_checkpointing",
        "training.device",
        "training.compile",
        "training.n_accumulation",
        "training.n_prefetch",
        "training.parallel",
        "training.max_minutes",
        "training.stop_when",
        "training.checkpoint",
        "training.track",
    }
)
OPTIONAL = frozenset({"decided", "evaluated_at_step"})
"""Of a result: left out where there is nothing to say."""

C = TypeVar("C", bound=Config)
Status = Literal["finished", "preempted", "diverged"]


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
        decided: why it was finished before its last step; None, and left out there, when it was not.
        evaluated_at_step: when the measures are those of an earlier step, as of a run that was stopped
            between two evaluations; None, and left out there, when they are its own.
    """

    status: Status
    step: int
    seconds: float
    n_params: int
    metrics: dict[str, Any]
    config_hash: str
    decided: str | None = None
    evaluated_at_step: int | None = None


@dataclass(frozen=True)
class Run:
    """An open run folder; see `open_run`.

    Args:
        folder: where it is.
        world: the processes of this run; rank 0 is the only one that writes.
        config_hash: of the config in ``config.yaml``, as it was when the run began.
        log: says things on the terminal and in ``log.txt``.
        config: what it was opened with.
    """

    folder: Path
    world: World
    config_hash: str
    log: RunLog
    config: Config

    @property
    def metrics(self) -> RowFile:
        """One row a logged step."""
        return RowFile(self.folder / METRICS)

    @property
    def evals(self) -> RowFile:
        """One row an evaluation."""
        return RowFile(self.folder / EVALS)

    @property
    def checkpoints(self) -> Checkpointer:
        """The checkpoints of this run."""
        return Checkpointer(self.folder / checkpoint.FOLDER, self.config_hash)

    @property
    def result(self) -> TrainResult | None:
        """The result once the run is finished, None before."""
        result = read_result(self.folder)
        return result if result is not None and result.status == "finished" else None

    def begin(self) -> None:
        """Say that there is a first row: what this run replaces is removed, if that is still there."""
        if self.world.is_main:
            drop_replaced(self.folder)

    def finish(
        self, status: Status, step: int, seconds: float, n_params: int, decided: str | None = None
    ) -> TrainResult:
        """Write ``result.json`` from the last rows."""
        evaluation = self.evals.last()
        evaluated = evaluation.pop("step", step)
        metrics = {"loss": self.metrics.last().get("loss"), **evaluation}
        at_step = evaluated if evaluated != step else None
        result = TrainResult(
            status, step, round(seconds, 3), n_params, metrics, self.config_hash, decided, at_step
        )
        if self.world.is_main:
            said = asdict(result).items()
            row = {key: value for key, value in said if key not in OPTIONAL or value is not None}
            write_atomically(self.folder / RESULT, json.dumps(row, indent=2) + "\n")
        return result

    def record_data(self, hashes: Mapping[str, str]) -> None:
        """Note the hashes of the data, by name, in ``environment.json``.

        Raises:
            UserError: the run was started with other data.
        """
        note_hashes(self.folder, self.world, "data", hashes, "The data {}")

    def record_first_batch(self, sha256: str) -> None:
        """Note the hash of the first batch likewise: a stream may read what no config names."""
        hashes = {"sha256": sha256}
        note_hashes(
            self.folder, self.world, "first_batch", hashes, "The first batch, whatever it is made of,"
        )

    def record_measured(self, hashes: Mapping[str, str]) -> None:
        """Note the hashes of the examples that it is measured on likewise, before the first evaluation.

        Raises:
            UserError: the run was measured on others, or did not note on which.
        """
        if hashes and self.evals.last():
            check_noted(self.folder, "measured", "which examples it was measured on")
        note_hashes(self.folder, self.world, "measured", hashes, "The set of examples to measure on, {},")

    def record_precision(self, precision: Precision) -> None:
        """Note the format of matrix products, too: ``auto`` may choose another one where the run goes on."""
        if self.world.is_main:
            note_precision(self.folder, precision)


def read_result(folder: Path) -> TrainResult | None:
    """``result.json`` of a run folder, None when there is none.

    Raises:
        UserError: it is not the result of a run.
    """
    path = folder / RESULT
    text = read_text(path)
    if text is None:  # perhaps just removed, by the process that goes on with the run
        return None
    try:
        return TrainResult(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not the result of a run ({error}): remove it.") from error


@contextmanager
def open_run(
    config: Config,
    folder: Path,
    *,
    device: str | None = None,
    overwrite: bool | None = None,
) -> Iterator[Run]:
    """Open the folder of a run, to start it or to go on with it.

    Args:
        config: everything about the run; its resolved form is written to ``config.yaml``.
        folder: made when it is not there; with several machines, on a disk they share.
        device: see `nanollama.distributed.choose_device`; by default, what ``training.device`` of the config
            says.
        overwrite: replace what an earlier run wrote here, and nothing else; until this one has begun, it can
            be put back, and is when this one fails (see `nanollama.monitor.successor`). By default, as
            the config says.

    Raises:
        UserError: another process is using the folder, or it belongs to another config.
    """
    from nanollama.distributed import open_world

    anew = getattr(config, "overwrite", False) if overwrite is None else overwrite
    with ExitStack() as stack:
        world = stack.enter_context(open_world(device or _device_of(config)))
        if world.is_main:
            _make(folder, elsewhere(folder, config))
            stack.enter_context(hold_folder(folder, LOCK, remedy=elsewhere(folder, config)))
            stack.enter_context(succeed(folder, anew=anew))
            _claim(folder, config)
        world.wait()
        log = RunLog(folder / LOG if world.is_main else None)
        stack.enter_context(log.listen())
        run = Run(folder, world, file_hash(folder / CONFIG), log, config)
        finished = run.result is not None
        if finished:
            logger.info("%s is finished: nothing to do (overwrite=true starts anew).", folder)
            logger.info("next: %s", nanollama_command("report", str(folder)))
        elif world.is_main:
            (folder / RESULT).unlink(missing_ok=True)
            run.checkpoints.clean()
            remove_leftovers(folder, (RESULT, METRICS, EVALS, DIALOGS, ENVIRONMENT, CONFIG))
            note_start(folder, world)
        world.wait()
        yield run


def is_held(folder: Path) -> bool | None:
    """Is a run at work in the folder, here or on another machine? None when nobody knows."""
    try:
        with open(folder / LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _device_of(config: Config) -> str:
    """What the config says of the device; those that train nothing say nothing."""
    return str(getattr(getattr(config, "training", None), "device", "auto"))


def _make(folder: Path, remedy: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"The run folder {folder} cannot be made, a file is in its place: {remedy}."
        ) from None
    except OSError as error:
        raise UserError(f"The run folder {folder} cannot be made ({error.strerror}): {remedy}.") from None


def dump_to_go_on(config: Config) -> str:
    """The text of a config that goes on with its run whenever it is run again: it must not replace it."""
    anew = {"overwrite": False} if "overwrite" in type(config).model_fields else {}
    return dump_config(config.model_copy(update=anew))


def _claim(folder: Path, config: Config) -> None:
    """Write the config into a new folder, or one whose run never began; refuse one of another config."""
    path = folder / CONFIG
    text, remedy = dump_to_go_on(config), elsewhere(folder, config)
    if not path.exists():
        check_own(folder, text, remedy)
        if begun := _traces(folder):
            raise UserError(f"The run folder {folder} holds {begun[0]} but no {CONFIG}: {remedy}, {ANEW}.")
        write_atomically(path, text)
    elif not _never_began(folder, type(config)):
        check_config(folder, config)
        _check_unedited(folder, remedy)
        check_decided(folder, config, read_json(folder / RESULT))
    elif path.read_text(encoding="utf-8") != text:
        (folder / ENVIRONMENT).unlink()
        write_atomically(path, text)


def _traces(folder: Path) -> list[str]:
    """What shows that a run has begun here: rows, a result, checkpoints."""
    begun = [name for name in (METRICS, EVALS, RESULT) if (folder / name).exists()]
    return begun + ([checkpoint.FOLDER] if Checkpointer(folder / checkpoint.FOLDER).steps() else [])


def _never_began(folder: Path, kind: type[Config]) -> bool:
    """Was a run refused here before its first step? Its config is not to stand in a better one's way.

    A config that somebody else has put here is not as a run writes it, or has no environment beside it.
    """
    path = folder / CONFIG
    if _traces(folder) or not (folder / ENVIRONMENT).exists():
        return False
    try:
        return path.read_text(encoding="utf-8") == dump_config(load_config(kind, [str(path)]))
    except (ConfigError, UnicodeDecodeError):
        return False


def check_config(folder: Path, config: Config) -> None:
    """Refuse a folder whose run has another config; one whose run has not begun is fine.

    Raises:
        UserError: naming the first difference; see also `check_undecided`.
    """
    path = folder / CONFIG
    if not path.exists() or _never_began(folder, type(config)):
        return
    is_run = holds_run(folder)
    retry = elsewhere(folder, config) + (f", {ANEW}" if is_run else "")
    try:
        started = load_config(type(config), [str(path)])
    except ConfigError as error:
        what = (
            "belongs to a run of another kind or version" if is_run else f"holds a {CONFIG} that no run wrote"
        )
        reason = str(error).splitlines()[0]
        raise UserError(f"The run folder {folder} {what} ({reason}): {retry}.") from error
    difference = first_difference(_adopt(started, config, MAY_DIFFER), config)
    if difference is not None:
        raise UserError(f"The run folder {folder} belongs to another config, {difference}: {retry}.")
    check_undecided(folder, started, config)


def _check_unedited(folder: Path, remedy: str) -> None:
    """Refuse a run whose ``config.yaml`` was changed: no checkpoint would be its own."""
    path = folder / CONFIG
    checkpoints = Checkpointer(folder / checkpoint.FOLDER)
    manifests = (checkpoints.path(step) / checkpoint.MANIFEST for step in checkpoints.steps())
    begun = {read_json(file).get("config_hash") for file in (folder / RESULT, *manifests)} - {None}
    if begun and file_hash(path) not in begun:
        raise UserError(
            f"{path} has been changed since its run began, whose checkpoints are of the config before: put "
            f"it back as it was and give what is to differ as `key=value`; or {remedy}, {ANEW}."
        )


def differs(path: Path, config: Config) -> str | None:
    """The first difference of a config from that in a file; None where it is of the same run, or gone."""
    if (text := read_text(path)) is None or text == dump_to_go_on(config):  # which spares reading YAML
        return None
    try:
        there = load_config(type(config), [str(path)])
    except ConfigError as error:
        return str(error).splitlines()[0]
    return first_difference(_adopt(there, config, MAY_DIFFER), config)


def _adopt(config: C, other: Config, keys: Collection[str]) -> C:
    """The config with the other's values at some dotted keys; keys it does not have are passed over."""
    update: dict[str, Any] = {}
    for name in type(config).model_fields:
        mine, theirs = getattr(config, name), getattr(other, name)
        inner = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
        if name in keys:
            update[name] = theirs
        elif inner and isinstance(mine, Config) and type(mine) is type(theirs):
            update[name] = _adopt(mine, theirs, inner)
    return config.model_copy(update=update)

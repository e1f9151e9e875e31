"""What a run folder and Slurm's queue together say about a run."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from nanollama.config import Config
from nanollama.errors import Preempted
from nanollama.launcher.attempts import Launch, begin_attempt, read_launch, run_arguments, write_launch
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.local import drive
from nanollama.launcher.local.pool import Line
from nanollama.launcher.local.run import _conclude, take_back_orders
from nanollama.launcher.plan import Plan
from nanollama.launcher.screen import state_lines
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.launcher.slurm import queue as slurm_queue
from nanollama.launcher.slurm.queue import Queue
from nanollama.launcher.states import BY_HAND, Kind, State, inspect, inspect_needed, parents_first
from nanollama.monitor.successor import cancel_order, is_ordered_anew, order_anew

HERE: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}
GONE = {**HERE, "pid": 2**22 + 1}  # larger than any process number of Linux


class Trains(Config):
    """Like the config of a run of training."""

    training: int = 0


@pytest.mark.parametrize(
    ("launch", "queue", "kind"),
    [
        (Launch(**HERE), None, "running"),
        (Launch(**GONE), None, "waiting"),
        (Launch(**GONE, job="7"), {"7": "RUNNING"}, "running"),
        (Launch(**HERE, job="7"), {}, "failed"),
        (Launch(**HERE, job="7"), {"7": "PENDING"}, "queued"),
        (Launch(job="7", queued=True), None, "queued"),
        (Launch(job="7", queued=True), {"7": "PENDING"}, "queued"),
        (Launch(job="7", queued=True), {"7": "COMPLETING"}, "queued"),
        (Launch(job="7_0", queued=True), {"7_1": "PENDING"}, "failed"),
        (Launch(job="7", exit_code=75), {"7": "COMPLETING"}, "stopped"),
        (Launch(job="7", exit_code=75), {"7": "PENDING"}, "queued"),
        (Launch(job="7", exit_code=1, reason="no"), {"7": "COMPLETING"}, "failed"),
        (Launch(job="7", exit_code=0), {}, "failed"),
    ],
)
def test_the_kind_of_a_run(tmp_path: Path, launch: Launch, queue: Queue | None, kind: str) -> None:
    write_launch(tmp_path, launch)
    state = inspect(GridRun("r", tmp_path, Trains(), {}), queue)
    assert state.kind == kind
    assert bool(state.reason) == (kind == "failed")


def launched(folder: Path, **about: Any) -> State:
    write_launch(folder, Launch(**about))
    return inspect(GridRun("r", folder, Trains(), {}))


@pytest.mark.parametrize("where", [HERE, {"host": "elsewhere", "pid": 1}])
def test_the_lock_of_a_folder_tells_whether_an_attempt_still_runs(
    tmp_path: Path, where: dict[str, Any]
) -> None:
    long_ago = {**where, "began": "2020-01-01T00:00:00+00:00"}
    with open(tmp_path / ".lock", "w", encoding="utf-8") as lock:
        assert launched(tmp_path, **long_ago).kind == "waiting"  # its number is that of another process
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert launched(tmp_path, **long_ago).kind == "running"
    assert launched(tmp_path, **long_ago).kind == "waiting"
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    assert launched(tmp_path, **where, began=now).kind == "running"  # it may not have opened it yet
    for ahead, kind in ((timedelta(seconds=30), "running"), (timedelta(hours=1), "waiting")):
        began = (datetime.now(timezone.utc) + ahead).isoformat(timespec="seconds")
        assert launched(tmp_path, **where, began=began).kind == kind, "the clock was set back"


def test_a_grid_that_was_copied_from_a_cluster_says_what_holds_it_back(tmp_path: Path) -> None:
    state = launched(tmp_path, host="node7", pid=1, job="7", queued=True)
    assert state.kind == "queued"
    assert state.reason.startswith("so node7 has noted, and Slurm cannot be asked here: if its job 7 is gone")
    assert state.reason.endswith(f"remove {tmp_path / 'launch.json'}")
    assert launched(tmp_path, **HERE, job="7", queued=True).reason == ""
    write_launch(tmp_path, Launch(host="node7", pid=1, job="7", queued=True))
    assert inspect(GridRun("r", tmp_path, Trains(), {}), {"7": "PENDING"}).reason == ""


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"n_attempts": 1}', '{"pid": "x"}', '{"exit_code": "x"}', '{"exit_code": 1.5}']
)
def test_a_damaged_ledger_holds_no_run_back(tmp_path: Path, text: str) -> None:
    (tmp_path / "launch.json").write_text(text)
    run = GridRun("r", tmp_path, Trains(), {})
    assert inspect(run).kind == "waiting"
    assert begin_attempt(tmp_path, os.getpid()).n_attempts >= 1
    (tmp_path / "launch.json").write_text(text)
    with open(tmp_path / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert inspect(run).kind == "running"


@pytest.mark.parametrize("number", [0, -1, 10**30])
def test_a_number_of_no_process_is_not_running(tmp_path: Path, number: int) -> None:
    assert launched(tmp_path, host=HERE["host"], pid=number).kind == "waiting"


def test_a_submission_that_was_killed_leaves_runs_to_submit(tmp_path: Path) -> None:
    assert launched(tmp_path, **HERE, queued=True).kind == "queued"
    assert launched(tmp_path, **GONE, queued=True).kind == "waiting"


def test_what_is_to_start_anew_is_not_finished(tmp_path: Path) -> None:
    run = GridRun("r", tmp_path, Trains(), {})
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    order_anew(tmp_path)
    assert inspect(run).kind == "waiting" and "kept" in inspect(run).reason
    write_launch(tmp_path, Launch(job="7", queued=True))
    assert [inspect(run, queue).kind for queue in (None, {"7": "PENDING"})] == ["queued", "queued"]
    cancel_order(tmp_path)
    assert inspect(run, {}).kind == "finished"


@pytest.mark.parametrize(
    ("launch", "kind"),
    [
        (Launch(job="7", queued=True), "finished"),  # cancelled before it began
        (Launch(job="7"), "finished"),  # killed without a word
        (Launch(job="7", exit_code=75), "finished"),  # cancelled while it began
        (Launch(**GONE, queued=True), "finished"),  # its submission was killed
        (Launch(job="8", queued=True), "queued"),
        (Launch(job="7", exit_code=1, reason="no"), "failed"),
        (Launch(**GONE), "waiting"),  # the grid goes on with it
        (Launch(exit_code=75), "stopped"),
        (None, "waiting"),
    ],
)
def test_an_order_is_void_once_the_job_that_had_it_is_gone(
    tmp_path: Path, launch: Launch | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = GridRun("r", tmp_path, Trains(), {})
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    order_anew(tmp_path)
    if launch is not None:
        write_launch(tmp_path, launch)
    queue = {"8": "PENDING"}
    assert inspect(run, queue).kind == kind
    monkeypatch.setattr("nanollama.launcher.local.run.read_queue", lambda: queue)
    take_back_orders([run])
    assert is_ordered_anew(tmp_path) == (kind != "finished")
    assert (run_arguments(tmp_path)[1:] == []) == (kind == "finished"), "nothing replaces it by itself"


class Stopped:
    """A server, and a pool that is asked to stop while its runs start."""

    was_asked_to_stop = True
    begin: ClassVar[Callable[[GridRun], None]]

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def run(self, runs: Sequence[GridRun]) -> None:
        Stopped.begin(runs[0])

    def ask_to_stop(self) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("has_begun", [False, True])
def test_overwrite_typed_by_mistake_is_undone_by_ctrl_c(
    tmp_path: Path, has_begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Replaces(Config):
        training: None = None
        overwrite: bool = False

    runs = [GridRun(name, tmp_path / name, Replaces(), {}) for name in "abc"]
    for run in runs[:2]:
        run.folder.mkdir()
        (run.folder / "result.json").write_text('{"status": "finished"}')
    plan = Plan("g", tmp_path, "apps.toy.train", runs, "seed", True, LocalConfig(n_jobs=1), SlurmConfig())
    monkeypatch.setattr(drive, "Server", Stopped)
    monkeypatch.setattr(drive, "Pool", Stopped)
    begin = staticmethod(lambda run: cancel_order(run.folder) if has_begun else None)
    monkeypatch.setattr(Stopped, "begin", begin, raising=False)
    if has_begun:
        assert not drive.start(plan, runs, [], 0)
        assert [inspect(run).kind for run in runs] == ["finished", "waiting", "waiting"]
        return
    with pytest.raises(Preempted, match="what was there is kept and counts"):
        drive.start(plan, runs, [], 0)
    assert [inspect(run).kind for run in runs] == ["finished", "finished", "waiting"]
    order_anew(runs[0].folder)  # of a grid that was stopped halfway
    assert not drive.start(plan, runs, [], 0)
    assert [inspect(run).kind for run in runs] == ["waiting"] * 3


def write_many(folder: Path, pid: int) -> None:
    for _ in range(500):
        write_launch(folder, Launch(pid=pid))


def test_two_writers_of_a_ledger_do_not_hurt_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, pid)) for pid in (1, 2)]
    write_launch(tmp_path, Launch(pid=1))
    for writer in writers:
        writer.start()
    found = set()
    while any(writer.is_alive() for writer in writers):
        launch = read_launch(tmp_path)
        assert launch is not None
        found.add(launch.pid)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert found <= {1, 2}
    assert [path.name for path in tmp_path.iterdir()] == ["launch.json"]


def test_what_is_no_training_has_finished_when_it_ended_well(tmp_path: Path) -> None:
    write_launch(tmp_path, Launch(job="7", exit_code=0))
    assert inspect(GridRun("r", tmp_path, Config(), {}), {}).kind == "finished"


def test_long_lists_are_cut() -> None:
    states = {f"r{n}": State("waiting", {}) for n in range(4)} | {"f": State("failed", {}, "no")}
    assert list(state_lines(states, 2)) == [
        *("waiting   r0", "waiting   r1", "failed    f: no", "waiting   ... and 2 runs more")
    ]


def test_what_has_finished_is_finished_whatever_slurm_says(tmp_path: Path) -> None:
    write_launch(tmp_path, Launch(job="7"))
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    assert inspect(GridRun("r", tmp_path, Config(), {}), {"7": "RUNNING"}).kind == "finished"


def test_the_queue_is_read_as_squeue_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_queue.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm_queue, "_ask", lambda *command: "12_3 PENDING\n13 RUNNING\n")
    assert slurm_queue.read_queue() == {"12_3": "PENDING", "13": "RUNNING"}
    monkeypatch.setattr(slurm_queue, "_ask", lambda *command: None)
    assert slurm_queue.read_queue() is None
    assert slurm_queue.max_array_size() == slurm_queue.DEFAULT_MAX_ARRAY_SIZE
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm_queue.read_queue() is None


@pytest.mark.parametrize(
    ("parent", "launch", "queue", "kind", "reason"),
    [
        ("waiting", None, None, "waiting", "for p"),
        ("running", None, None, "waiting", "for p"),
        ("stopped", None, None, "waiting", "for p"),
        ("finished", None, None, "waiting", ""),
        ("failed", None, None, "failed", "not run: it starts from p, which has failed"),
        ("queued", Launch(job="7", queued=True), {"7": "PENDING"}, "queued", "for p"),
        ("failed", Launch(job="7", queued=True), {"7": "PENDING"}, "queued", "for p"),  # Slurm will see to it
        ("failed", Launch(job="7", queued=True), {}, "failed", "not run: it starts from p, which has failed"),
        ("stopped", Launch(job="7", queued=True), {}, "waiting", "for p"),
        ("finished", Launch(job="7", queued=True), {}, "failed", "its Slurm job 7 was cancelled"),
        ("failed", Launch(exit_code=1, reason="no"), None, "failed", "no"),
        ("failed", Launch(exit_code=75), None, "stopped", ""),
    ],
)
def test_the_kind_of_a_run_that_starts_from_another(
    tmp_path: Path, parent: Kind, launch: Launch | None, queue: Queue | None, kind: str, reason: str
) -> None:
    if launch is not None:
        write_launch(tmp_path, launch)
    run = GridRun("r", tmp_path, Trains(), {}, ("p",))
    state = inspect(run, queue, {"p": State(parent, {})})
    assert state.kind == kind and state.reason.startswith(reason) and bool(state.reason) == bool(reason)


@pytest.mark.parametrize(
    ("launch", "queue", "kind"),
    [
        (None, None, "finished"),  # run by hand
        (Launch(exit_code=0), None, "finished"),
        (Launch(exit_code=-9), None, "failed"),
        (Launch(exit_code=75), None, "stopped"),
        (Launch(**GONE), None, "waiting"),
        (Launch(**HERE, job="7"), {"7": "RUNNING"}, "running"),
    ],
)
def test_what_is_needed_has_finished_once_its_process_has(
    tmp_path: Path, launch: Launch | None, queue: Queue | None, kind: str
) -> None:
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    if launch is not None:
        write_launch(tmp_path, launch)
    run = GridRun("r", tmp_path, Trains(), {})
    assert inspect_needed(run, queue).kind == kind and inspect(run, queue).kind == "finished"


def test_what_is_needed_and_runs_by_hand_is_at_work(tmp_path: Path) -> None:
    run = GridRun("r", tmp_path, Trains(), {})
    with open(tmp_path / ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert inspect_needed(run).kind == "running"
    assert inspect_needed(run).kind == "waiting"


ENDED = (None, Launch(exit_code=75), Launch(exit_code=1, reason="no"), Launch(**GONE))


@pytest.mark.parametrize("launch", ENDED)
def test_a_run_that_goes_on_by_hand_is_at_work(tmp_path: Path, launch: Launch | None) -> None:
    if launch is not None:
        write_launch(tmp_path, launch)
    run = GridRun("r", tmp_path, Trains(), {}, ("p",))
    parents = {"p": State("failed", {})}
    with open(tmp_path / ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert inspect(run, None, parents).kind == "running"
        assert (inspect(run, {}).reason == BY_HAND) == (launch is None or launch.exit_code is not None)
    assert inspect(run, None, parents).kind != "running"


def test_a_run_that_has_loaded_still_comes_after_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/step_00000004").mkdir(parents=True)
    run = GridRun("r", tmp_path, Trains(), {}, ("p",), ("n",))
    for kind, reason in (("waiting", "for n"), ("finished", "")):
        states = {"n": State(cast(Kind, kind), {}), "p": State("failed", {})}
        assert inspect(run, None, states) == State("waiting", {}, reason)


def family(*edges: tuple[str, tuple[str, ...]]) -> list[GridRun]:
    return [GridRun(name, Path(name), Config(), {}, after) for name, after in edges]


def test_a_line_keeps_its_order_and_parents_come_first() -> None:
    line = Line(
        family(("a", ()), ("b", ("a",)), ("c", ("b", "d")), ("d", ()), ("e", ("a", "gone")), ("f", ()))
    )
    assert [line.take().name, line.take().name] == ["a", "d"]
    line.release("a")
    assert line.take().name == "b", "before what comes later in the line"
    line.release("d")
    assert [line.take().name for _ in range(2)] == ["e", "f"]
    assert not line and line.n_waiting == 1
    assert [(run.name, parent) for run, parent in line.drop("b")] == [("c", "b")]
    assert not line and line.n_waiting == 0
    runs = family(("a", ()), ("b", ("a",)), ("c", ("x",)), ("d", ("c",)), ("e", ("y",)))
    assert [[run.name for run in part] for part in parents_first(runs, {"y"})] == [
        ["a", "b", "e"],
        ["c", "d"],
    ]


@pytest.mark.parametrize(("anew", "how"), [(True, "without overwrite=true"), (False, "run the command")])
def test_a_grid_that_was_stopped_says_what_goes_on(anew: bool, how: str) -> None:
    (run,) = family(("a", ()))
    plan = Plan("g", Path("g"), "apps.toy.train", [run], "seed", anew, LocalConfig(), SlurmConfig())
    with pytest.raises(Preempted, match=how):
        _conclude(plan, {"a": State("stopped", {})}, [run])

"""A bounded pool of processes on this machine, each of which trains one run."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from nanollama.errors import EXIT_OK, EXIT_PREEMPTED, UserError
from nanollama.failures import STARTER_GONE
from nanollama.launcher.attempts import (
    OUTPUT,
    Launch,
    begin_attempt,
    describe_exit,
    failure_reason,
    run_arguments,
    write_launch,
)
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.local.share import VISIBLE
from nanollama.launcher.screen import Screen
from nanollama.launcher.states import KILLED, has_loaded, inspect, not_run, write_config
from nanollama.monitor.preemption import ECHO_SECONDS
from nanollama.studies import find_root

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
SECONDS_BETWEEN_LOOKS = 0.5


class Server:
    """The driver's side of a `nanollama.launcher.local.forkserver`.

    Args:
        module: has the ``main(argv)`` that a run is.
        n_threads: CPU threads of each run.
        keep_open: file descriptors that all processes hold open, such as that of a lock.

    Raises:
        UserError: the module cannot be imported.
    """

    def __init__(self, module: str, n_threads: int, keep_open: Sequence[int] = ()) -> None:
        threads = dict.fromkeys(THREAD_VARIABLES, str(n_threads))
        places = [str(find_root()), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nanollama.launcher.local.forkserver", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(places)},
            pass_fds=tuple(keep_open),
            start_new_session=True,  # Ctrl-C is for the driver, which asks the runs to stop
        )
        self._unread = b""
        self._ready: deque[dict[str, Any]] = deque()
        first = self._wait()
        if "broken" in first:
            sys.stderr.write(first["traceback"])
            raise UserError(f"The module {module} cannot be imported: {first['broken']}")

    def start(self, run: str, argv: Sequence[str], output: Path, environment: Mapping[str, str]) -> int:
        """Start a run; returns the number of its process."""
        self._send({"run": run, "argv": argv, "output": str(output), "environment": environment})
        others = deque[dict[str, Any]]()
        while "began" not in (message := self._wait()):
            others.append(message)
        self._ready.extendleft(reversed(others))
        assert message["began"] == run
        return int(message["pid"])

    def stop(self, run: str, number: signal.Signals) -> None:
        """Send a signal to a run."""
        self._send({"stop": run, "signal": int(number)})

    def ended(self, timeout: float) -> list[tuple[str, int]]:
        """Runs that have ended since the last call, with exit codes; waits for one so long, in seconds."""
        if not self._ready and select.select([self._output], [], [], timeout)[0]:
            self._read()
        messages = [*self._ready]
        self._ready.clear()
        return [(message["ended"], message["exit_code"]) for message in messages]

    def close(self) -> None:
        """Ask what still runs to stop, and wait for it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has gone before
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    @property
    def _output(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _wait(self) -> dict[str, Any]:
        while not self._ready:
            self._read()
        return self._ready.popleft()

    def _read(self) -> None:
        block = os.read(self._output, 1 << 16)
        if not block:
            raise self._gone()
        *lines, self._unread = (self._unread + block).split(b"\n")
        self._ready.extend(json.loads(line) for line in lines)

    def _gone(self) -> RuntimeError:
        return RuntimeError(
            f"{STARTER_GONE} ({describe_exit(self._process.wait())}): its runs were asked to stop. The same "
            "command goes on, without overwrite=true."
        )


class Line:
    """Runs that are to be started: in their order, but each after those that it starts from have finished.

    One that has loaded already what it starts from goes on without it.

    Args:
        runs: in their order, parents before those that start from them; other parents have finished.
    """

    def __init__(self, runs: Sequence[GridRun]) -> None:
        names = {run.name for run in runs}
        self._runs = runs
        self._open = [set() if has_loaded(run) else names.intersection(run.after) for run in runs]
        self._children: dict[str, list[int]] = {}
        for index, parents in enumerate(self._open):
            for name in parents:
                self._children.setdefault(name, []).append(index)
        self._ready = [index for index, parents in enumerate(self._open) if not parents]
        self.n_waiting = len(runs)

    def __bool__(self) -> bool:
        """Can one be started now?"""
        return bool(self._ready)

    def take(self) -> GridRun:
        """The next."""
        self.n_waiting -= 1
        return self._runs[heappop(self._ready)]

    def release(self, parent: str) -> None:
        """A run has finished: what starts from it may be started."""
        for index in self._children.get(parent, ()):
            self._open[index].discard(parent)
            if not self._open[index]:
                heappush(self._ready, index)

    def drop(self, parent: str) -> Iterator[tuple[GridRun, str]]:
        """A run has failed: each run that is not started for this, with the one that it starts from."""
        for index in self._children.pop(parent, ()):
            self.n_waiting -= 1
            yield self._runs[index], parent
            yield from self.drop(self._runs[index].name)

    def clear(self) -> None:
        """Start nothing more."""
        self._ready.clear()
        self._children.clear()
        self.n_waiting = 0


class Pool:
    """Runs a list of runs, at most ``n_jobs`` at a time.

    Args:
        server: starts processes.
        n_jobs: runs at a time.
        gpus: their names; each job sees one of them. None: every job sees all there are.
        screen: shows what happens.
    """

    def __init__(self, server: Server, n_jobs: int, gpus: Sequence[str], screen: Screen) -> None:
        self._server = server
        self._screen = screen
        self._places = deque((place, gpus[place % len(gpus)] if gpus else None) for place in range(n_jobs))
        self._running: dict[str, tuple[GridRun, Launch, tuple[int, str | None]]] = {}
        self._waiting = Line(())
        self._n_asked = self._n_stops = 0
        self._first_asked = math.inf

    def run(self, runs: Sequence[GridRun]) -> None:
        """Start each run that can be started, see `Line`; return when all that were started have ended."""
        self._waiting = Line(runs)
        while self._running or self._waiting:
            while self._waiting and self._places:
                self._start(self._waiting.take())
            for name, exit_code in self._server.ended(SECONDS_BETWEEN_LOOKS):
                self._finish(name, exit_code)
            if self._n_stops < self._n_asked:
                self._stop()
            self._screen.look([run for run, _, _ in self._running.values()], self._waiting.n_waiting)

    def ask_to_stop(self) -> None:
        """Start nothing more and let what runs save and leave; asked again, kill it. For signal handlers.

        One Ctrl-C can arrive twice: what comes less than `ECHO_SECONDS` after the first is the same request.
        """
        now = time.monotonic()
        self._first_asked = min(self._first_asked, now)
        if self._n_asked == 0 or now - self._first_asked >= ECHO_SECONDS:
            self._n_asked += 1

    @property
    def was_asked_to_stop(self) -> bool:
        """Has it been?"""
        return self._n_asked > 0

    def _stop(self) -> None:
        self._n_stops += 1
        self._waiting.clear()
        number = signal.SIGTERM if self._n_stops == 1 else signal.SIGKILL
        for name in self._running:
            self._server.stop(name, number)

    def _start(self, run: GridRun) -> None:
        place = self._places.popleft()
        gpu = place[1]
        environment = {} if gpu is None else {VISIBLE: gpu}
        write_config(run)
        pid = self._server.start(run.name, run_arguments(run.folder), run.folder / OUTPUT, environment)
        self._running[run.name] = run, begin_attempt(run.folder, pid), place
        self._screen.began(run)

    def _finish(self, name: str, exit_code: int) -> None:
        run, launch, place = self._running.pop(name)
        self._places.append(place)
        stopped = self._n_stops > 0 and exit_code in (-signal.SIGTERM, -signal.SIGKILL)
        code = EXIT_PREEMPTED if stopped else exit_code
        failed = code not in (EXIT_OK, EXIT_PREEMPTED)
        reason = failure_reason(run.folder, code) if failed else ""
        if stopped and exit_code == -signal.SIGKILL:
            reason = KILLED
        launch = replace(launch, exit_code=code, reason=reason)
        write_launch(run.folder, launch)
        self._screen.ended(run, launch)
        self._go_on_after(run)

    def _go_on_after(self, run: GridRun) -> None:
        """Let those that start from a run be started if it has finished, and never if it has failed."""
        kind = inspect(run).kind
        if kind == "finished":
            self._waiting.release(run.name)
        elif kind == "failed":
            for child, parent in self._waiting.drop(run.name):
                self._screen.left_out(child, not_run(parent))

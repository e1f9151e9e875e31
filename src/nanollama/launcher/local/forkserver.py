"""A process that imports what runs need once, and forks a child for each of them.

Importing torch and a study takes seconds, a fork milliseconds; and a run in a process of its own can crash,
leak or be killed without touching another. The server is single-threaded and never computes anything, so a
fork of it is safe. It serves one driver: requests come in on its standard input, replies go out on its
standard output, both as JSON lines. When the driver ends, however it ends, the input closes: the server asks
its children to stop, which save and leave, waits for them and ends too.

Requests: ``{"run": NAME, "argv": [...], "output": PATH, "environment": {...}}`` starts a child, ``{"stop":
NAME, "signal": N}`` sends it a signal. Replies: ``{"ready": PID}`` once, ``{"began": NAME, "pid": PID}``,
``{"ended": NAME, "exit_code": N}`` with a negative number for a signal.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from nanollama.errors import EXIT_FAILED

Main = Callable[[list[str]], int]

LAZY = ("torch._dynamo",)
"""What torch imports when the first optimizer is made: seconds that every run would spend anew."""
PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)


class ForkServer:
    """The server's side.

    Args:
        main: what a child calls with its ``argv``; returns the exit code.
        requests: file descriptor to read from.
        replies: file descriptor to write to.
    """

    def __init__(self, main: Main, requests: int, replies: int) -> None:
        self._main = main
        self._requests = requests
        self._replies = replies
        self._runs: dict[int, str] = {}
        self._unread = b""
        self._wake_read, self._wake_write = os.pipe()

    def serve(self) -> None:
        """Serve until the driver has gone and all children have ended."""
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._reply({"ready": os.getpid()})
        listening = True
        while listening or self._runs:
            sources = [self._wake_read, *([self._requests] if listening else [])]
            ready, _, _ = select.select(sources, [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._requests in ready:
                listening = self._read_requests()
                if not listening:
                    for pid in self._runs:
                        os.kill(pid, signal.SIGTERM)

    def _read_requests(self) -> bool:
        """Handle what has come in; False at the end of the input."""
        block = os.read(self._requests, 1 << 16)
        *lines, self._unread = (self._unread + block).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "stop" in request:
                self._stop(request["stop"], request["signal"])
            else:
                self._start(request)
        return bool(block)

    def _start(self, request: dict[str, Any]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become(request)
        self._runs[pid] = request["run"]
        self._reply({"began": request["run"], "pid": pid})

    def _stop(self, run: str, number: int) -> None:
        for pid, name in self._runs.items():
            if name == run:
                os.kill(pid, number)

    def _reap(self) -> None:
        while self._runs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            run = self._runs.pop(pid)
            self._reply({"ended": run, "exit_code": os.waitstatus_to_exitcode(status)})

    def _become(self, request: dict[str, Any]) -> None:
        """In the child: be the run, and never return."""
        code = EXIT_FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stop_with_parent()
            for descriptor in (self._requests, self._replies, self._wake_read, self._wake_write):
                os.close(descriptor)
            redirect(request["output"])
            os.environ.update(request["environment"])
            code = self._main(request["argv"])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else EXIT_FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # the exit handlers are those of the server, not of the run

    def _reply(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._replies, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:  # the driver has gone; so it says when it comes to the input
            return


def stop_with_parent() -> None:
    """Where the system can (Linux): let this process be asked to stop when the one that started it dies."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def redirect(output: str) -> None:
    """Send what this process prints to the end of a file, and read nothing from the terminal."""
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((null, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(file)


def main(argv: Sequence[str]) -> int:
    """Serve runs of a module: ``python -m nanollama.launcher.local.forkserver MODULE``."""
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what imports print must not be mistaken for a reply
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        run = importlib.import_module(argv[0]).main
        for name in LAZY if "torch" in sys.modules else ():
            importlib.import_module(name)
    except Exception as error:
        message = {"broken": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        os.write(replies, json.dumps(message).encode() + b"\n")
        return EXIT_FAILED
    gc.freeze()  # children share what is imported; collecting it would copy it
    ForkServer(run, requests, replies).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

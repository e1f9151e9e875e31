"""A pool that is asked to stop, once or twice, and what it says of runs that were killed."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nanollama.config import Config
from nanollama.entrypoint import guard
from nanollama.errors import Preempted
from nanollama.launcher.attempts import read_launch
from nanollama.launcher.grid.expand import GridRun
from nanollama.launcher.local import pool as local_pool
from nanollama.launcher.local.pool import Pool
from nanollama.launcher.local.run import _conclude
from nanollama.launcher.plan import Plan
from nanollama.launcher.screen import Screen
from nanollama.launcher.settings import LocalConfig, SlurmConfig
from nanollama.launcher.states import KILLED, inspect

LONG = json.dumps({"step": 7, "loss": 0.5, "text": "a" * 9_000}) + "\n"


class Trains(Config):
    """Like the config of a run of training."""

    training: int = 0


class Server:
    """Runs nothing; whoever reads asks the pool to stop, at given times, and the run ends with the last."""

    def __init__(self, times: list[float]) -> None:
        self.now = 0.0
        self.times, self.sent = times, list[int]()
        self.pool: Any = None

    def start(self, run: str, argv: Any, output: Path, environment: Any) -> int:
        return 2**22 + 1

    def stop(self, run: str, number: signal.Signals) -> None:
        self.sent.append(number)

    def ended(self, timeout: float) -> list[tuple[str, int]]:
        if self.times:
            self.now = self.times.pop(0)
            self.pool.ask_to_stop()
            return []
        return [("r", -self.sent[-1] if self.sent[-1] == signal.SIGKILL else 75)]


@pytest.mark.parametrize(
    ("times", "sent", "said"),
    [
        ([5.0], [signal.SIGTERM], "what was running is saved: run"),
        ([5.0, 5.03], [signal.SIGTERM], "what was running is saved: run"),  # of the terminal and the parent
        ([5.0, 6.5], [signal.SIGTERM, signal.SIGKILL], "1 run killed before the state was saved"),
        ([5.0, 5.6, 6.2], [signal.SIGTERM, signal.SIGKILL], "1 run killed"),
    ],
)
def test_one_ctrl_c_that_arrives_twice_kills_nothing(
    tmp_path: Path, times: list[float], sent: list[int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = Server(times)
    monkeypatch.setattr(local_pool.time, "monotonic", lambda: server.now)
    run = GridRun("r", tmp_path / "r", Trains(), {})
    server.pool = Pool(server, 1, (), Screen(1, 0, 1))
    server.pool.run([run])
    assert server.sent == sent
    launch, state = read_launch(run.folder), inspect(run)
    assert launch is not None and launch.exit_code == 75
    assert (state.kind, state.reason) == ("stopped", KILLED if signal.SIGKILL in sent else "")
    plan = Plan("g", tmp_path, "apps.toy.train", [run], "seed", False, LocalConfig(), SlurmConfig())
    with pytest.raises(Preempted, match=said):
        _conclude(plan, {"r": state}, [run])


def test_the_process_that_starts_runs_is_missed_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(ask: Callable[[local_pool.Server], object]) -> int:
        server = local_pool.Server("json.tool", 1)  # any module will do, as nothing is started
        os.kill(server._process.pid, signal.SIGKILL)
        server._process.wait()
        try:
            return guard(lambda: ask(server) and 0)
        finally:
            server.close()

    monkeypatch.setattr(local_pool, "find_root", Path.cwd)
    for ask in (lambda server: server.ended(5.0), lambda server: server.start("r", [], Path("o"), {})):
        assert lose(ask) == 1
        said = capsys.readouterr().err
        assert said.startswith(
            "The process that starts runs has ended (killed by SIGKILL (out of memory?)): "
        )
        assert said.count("\n") == 1


@pytest.mark.parametrize(("text", "shown"), [(LONG, "r 0.5000"), (LONG + "{}\n", "r"), ("", "r")])
def test_the_table_shows_a_row_of_any_size_and_outlives_a_damaged_one(
    tmp_path: Path, text: str, shown: str
) -> None:
    run = GridRun("r", tmp_path / "r", Trains(), {})
    run.folder.mkdir()
    (run.folder / "metrics.jsonl").write_text(text)
    out = io.StringIO()
    screen = Screen(1, 0, 1, Console(file=out, force_terminal=True, width=80))
    with screen.open():
        screen.began(run)
        screen.look([run], 0)
    assert re.sub(r"\x1b\S*", "", out.getvalue()).splitlines()[2].split() == shown.split()

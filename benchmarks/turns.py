"""Contestants that take turns, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

Step = Callable[[int], object]
"""Does the work of the step of this number."""


def seconds_a_step(
    contestants: Mapping[str, Callable[[], Step]], n_turns: int, n_steps: int, n_warm: int
) -> dict[str, float]:
    """Seconds of a step of each contestant, the median over its turns.

    Each lives in a process of its own, as it would in use: loops that share one leave each other a cut-up
    heap and too many compiled graphs. A turn is several steps; all take steps of the same numbers.

    Args:
        contestants: what makes the steps, by name; goes to another process, so it can be pickled.
        n_turns: of each.
        n_steps: of a turn.
        n_warm: steps before the first turn that are not counted; compiled loops meet their shapes here.

    Raises:
        RuntimeError: a contestant has failed; its traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for name, make_step in contestants.items():
        connections[name], other = context.Pipe()
        context.Process(target=_serve, args=(make_step, n_warm, other), daemon=True).start()
        other.close()
        _receive(name, connections[name])  # one warms up after another
    for turn in range(n_turns):
        first = n_warm + turn * n_steps
        for name, connection in connections.items():
            connection.send((first, first + n_steps))
            seconds[name].append(_receive(name, connection) / n_steps)
    for connection in connections.values():
        connection.send(None)
    return {name: statistics.median(times) for name, times in seconds.items()}


def _receive(name: str, connection: Connection) -> float:
    try:
        return float(connection.recv())
    except EOFError:
        raise RuntimeError(f"The contestant '{name}' has failed.") from None


def _serve(make_step: Callable[[], Step], n_warm: int, connection: Connection) -> None:
    """Take the steps asked for until ``None`` comes; answer with the seconds they took."""
    step = make_step()
    span: tuple[int, int] | None = (0, n_warm)
    while span is not None:
        began = time.perf_counter()
        for number in range(*span):
            step(number)
        connection.send(time.perf_counter() - began)
        span = connection.recv()

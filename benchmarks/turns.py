"""Contestants that take turns, two at a time, so that a slow moment of the machine hits both alike."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import NamedTuple

Step = Callable[[int], float]
"""Does the piece of work of this number; says how much it was."""

LIMIT_SECONDS = 200.0
"""For one answer: a start with its compiling, or a turn."""
WARM_SECONDS = 60.0
"""After which a slow machine has warmed up, however few steps that were."""
IMPORTED = ("torch._dynamo", "transformers.trainer", "transformers.models.llama.modeling_llama")
"""What takes contestants seconds to import, and is imported once for all of them where times do not count."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """Someone who does the work.

    Args:
        name: what it is, in words.
        make: makes its steps, in a process of its own; can be pickled.
        n_warm: steps before the first that counts; compiled loops meet their shapes here.
    """

    name: str
    make: Callable[[], Step]
    n_warm: int = 1


class Pair(NamedTuple):
    """What is compared: ours and another.

    Args:
        setting: the work.
        unit: of speeds, such as ``dialogs/s``, where a step's work is a number of dialogs.
        ours: what this project offers.
        other: what a user might pick instead.
        aim: how many times as fast ours should be at least; None: for information.
        not_here: why it cannot be measured on this machine, if it cannot.
    """

    setting: str
    unit: str
    ours: Contestant
    other: Contestant
    aim: float | None = None
    not_here: str = ""


class Effort(NamedTuple):
    """How long to look: the least seconds of a turn of each, and how many turns."""

    turn_seconds: float
    min_turns: int
    max_turns: int


FULL, QUICK = Effort(2.0, 2, 5), Effort(0.0, 1, 1)


class Timing(NamedTuple):
    """Speeds turn by turn, and the peak memory of each side's largest process."""

    ours: list[float]
    other: list[float]
    ours_peak_mib: float
    other_peak_mib: float


class Failure(Exception):
    """A contestant has failed, and why."""


class Ring:
    """Where pairs meet: each contestant lives in a process of its own, as it would in use.

    Loops that share a process leave each other a cut-up heap and too many compiled graphs. Nobody is alive
    who is not of the pair at hand; who is also of the next stays.

    Args:
        end: when nobody is waited for any more (``time.monotonic``).
        forked: whether processes begin with what is imported already, to show that everything runs.
    """

    def __init__(self, end: float, forked: bool = False) -> None:
        self._end = end
        self._context: SpawnContext | ForkServerContext = multiprocessing.get_context("spawn")
        if forked:
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(list(IMPORTED))
        self._seats: dict[Contestant, _Seat] = {}

    def compare(self, pair: Pair, effort: Effort, deadline: float) -> Timing | str:
        """Turns of both, A B A B: as many as the effort allows before the deadline, its fewest also after it.

        Why there are none, if one of them has failed.
        """
        try:
            return self._compare(pair, effort, deadline)
        except Failure as failure:
            return str(failure)

    def close(self) -> None:
        """End all."""
        while self._seats:
            self._seats.popitem()[1].end()

    def _compare(self, pair: Pair, effort: Effort, deadline: float) -> Timing:
        both = (pair.ours, pair.other)
        for contestant in [seated for seated in self._seats if seated not in both]:
            self._seats.pop(contestant).end()
        speeds: dict[Contestant, list[float]] = {contestant: [] for contestant in both}
        peaks: dict[Contestant, float] = {}
        for contestant in both:  # one warms up after another
            if contestant not in self._seats:
                self._seats[contestant] = _Seat(contestant, self._context)
                self._ask(contestant)
        for n_turns in range(1, effort.max_turns + 1):
            began = time.monotonic()
            for contestant in both:
                self._seats[contestant].connection.send(effort.turn_seconds)
                speed, peaks[contestant] = self._ask(contestant)
                speeds[contestant].append(speed)
            now = time.monotonic()
            next_end = now + (now - began)
            if next_end > self._end or (n_turns >= effort.min_turns and next_end > deadline):
                break
        return Timing(speeds[pair.ours], speeds[pair.other], peaks[pair.ours], peaks[pair.other])

    def _ask(self, contestant: Contestant) -> tuple[float, float]:
        left_seconds = max(0.0, self._end - time.monotonic())
        try:
            return self._seats[contestant].answer(min(LIMIT_SECONDS, left_seconds))
        except Failure as failure:
            self._seats.pop(contestant).end()
            raise Failure(f"'{contestant.name}' {failure}") from None


class _Seat:
    """The process of a contestant."""

    def __init__(self, contestant: Contestant, context: SpawnContext | ForkServerContext) -> None:
        self.connection, other = context.Pipe()
        arguments = (contestant.make, contestant.n_warm, other)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        other.close()

    def answer(self, limit_seconds: float) -> tuple[float, float]:
        if not self.connection.poll(limit_seconds):
            raise Failure(f"gave no answer in {limit_seconds:.0f} s.")
        try:
            answer = self.connection.recv()
        except EOFError:
            self._process.join()
            raise Failure(f"ended with exit code {self._process.exitcode}.") from None
        if isinstance(answer, str):
            raise Failure(f"failed: {answer}")
        speed, peak_mib = answer
        return speed, peak_mib

    def end(self) -> None:
        """End it and what it has started."""
        try:
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(make: Callable[[], Step], n_warm: int, connection: Connection) -> None:
    """Warm up, then take a turn of the seconds asked for, at least a step, again and again."""
    os.setsid()  # so that commands it runs end with it
    try:
        step, number, began = make(), 0, time.perf_counter()
        while number < n_warm and time.perf_counter() - began < WARM_SECONDS:
            step(number)
            number += 1
        connection.send((0.0, _peak_mib()))
        while True:
            turn_seconds = connection.recv()
            work, seconds, began = 0.0, 0.0, time.perf_counter()
            while work == 0 or seconds < turn_seconds:
                work += step(number)
                number += 1
                seconds = time.perf_counter() - began
            connection.send((work / seconds, _peak_mib()))
    except (EOFError, BrokenPipeError):
        return  # nobody listens any more
    except Exception as error:
        traceback.print_exc()
        connection.send(f"{type(error).__name__}: {error}")


def _peak_mib() -> float:
    """Of this process or the largest it has run; Linux counts in KiB."""
    return (
        max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        / 1024
    )

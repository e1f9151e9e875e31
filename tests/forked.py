"""Processes of tests that have imported already what takes seconds to import: they begin in milliseconds.

A server imports it once for all tests of a process, and is forked for each. What a test says about starting,
as `torchrun` or `python -m` do, it has to say with a process of its own.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
# The optimizer imports the compiler when it is made, which takes longer than a whole run of a toy.
IMPORTED = (
    "tests.toy_training",
    "nanollama.model",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "transformers.trainer",
)
PATIENCE_SECONDS = 300


@functools.cache
def server() -> ForkServerContext:
    """What forks, with all imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT}")
        process = context.Process(target=time.sleep, args=(0,))
        process.start()
        process.join()
    return context


def start(target: Callable[..., object], *args: object) -> ForkServerProcess:
    """Call a function in a process of its own; what it returns is the exit code."""
    process = server().Process(target=in_child, args=(target, *args))
    process.start()
    return process


def finish(target: Callable[..., object], *args: object) -> int | None:
    """The same, to its end; the exit code."""
    process = start(target, *args)
    process.join(PATIENCE_SECONDS)
    return process.exitcode


def in_two_processes(target: Callable[..., object], *args: object) -> list[int | None]:
    """Call a function in two processes that are a world as `torchrun` makes it; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(as_rank, rank, port, target, *args) for rank in range(2)]
    for process in processes:
        process.join(PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes]


def kill_when(condition: Callable[[], bool], target: Callable[..., object], *args: object) -> int | None:
    """Call a function in a process that is killed as soon as a condition holds; the exit code."""
    process = start(target, *args)
    while process.is_alive() and not condition():
        time.sleep(0.002)
    process.kill()
    process.join()
    return process.exitcode


def in_child(target: Callable[..., object], *args: Any) -> None:
    """Call a function quickly: what a killed process has written need not wait for the disk to be safe."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    torch.set_num_threads(1)
    raise SystemExit(target(*args))


def as_rank(rank: int, port: int, target: Callable[..., object], *args: object) -> object:
    """One of two."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    return target(*args)

"""Small runs of the studies, in processes of their own that may be killed, and what calm ones end with."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.toy_training import same_end

ROOT = Path(__file__).parents[2]
COMMON = (
    "training.n_steps=6",
    "training.batch_size=8",
    "training.log_every=1",
    "training.eval_every=3",
    "training.checkpoint.every=2",
    "training.device=cpu",
    "training.precision=float32",
    "training.optimizer.warmup_steps=0",
    "model.d_model=16",
)
KEYS: dict[str, tuple[str, ...]] = {
    "memory": ("data.n_people=8", "recall.n_people=4"),
    "composition": ("data.max_length=3", "data.n_train=6", "data.n_test=4"),
    "gssm": ("data.seq_len=12", "measures.n_sequences=16"),
    "tying": (
        "text.files=[text.txt]",
        "text.held_out=0.3",
        "text.cache=cache",
        "text.seq_len=8",
        "text.tokenizer={implementation: wordpiece, vocab_size: 100}",
        "model.vocab_size=100",
        "model.max_seq_len=8",
        "n_rows=40",
        "measures.n_rows=8",
        "interventions=[{implementation: untie, at_step: 3}]",
    ),
}
TEXT = "\n".join(
    " ".join(str((first + n * step) % 89) for n in range(30)) for first in range(20) for step in (1, 3, 7)
)
SECONDS_TO_HANG = 300.0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        code: exit code; minus the number of the signal that killed it.
        said: what it printed.
        seconds: it took.
    """

    code: int
    said: str
    seconds: float


def prepare(folder: Path) -> None:
    """Make the folder one in which `run` works: text to learn from, and the modules that children share."""
    (folder / "text.txt").write_text(TEXT)
    for study in KEYS:
        importlib.import_module(f"apps.{study}.train")


def arguments(study: str, folder: Path) -> list[str]:
    """What is typed behind ``train`` for the small run of a study in ``folder``."""
    config = ROOT / "apps" / study / "config" / "debug.yaml"
    return [str(config), f"run_dir={folder}", *COMMON, *KEYS[study]]


def run(
    module: str,
    argv: list[str],
    here: Path,
    *,
    before: Callable[[], None] | None = None,
    kill_after: float | None = None,
) -> Ended:
    """Call ``main`` of a module in a child process, whose working directory is ``here``.

    Args:
        before: called in the child first.
        kill_after: seconds until the child gets SIGKILL.
    """
    return Child(module, argv, here, before).wait(kill_after)


class Child:
    """A process that calls ``main`` of a module, started at once; see `run`."""

    def __init__(
        self, module: str, argv: list[str], here: Path, before: Callable[[], None] | None = None
    ) -> None:
        self._said = here / f"said_{os.urandom(4).hex()}.txt"
        self._said.touch()
        self._begun = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(module, argv, here, self._said, before)

    def stop(self, seconds: float) -> Ended:
        """Ask it to end by SIGTERM, and by SIGKILL if it has not after so many seconds; how it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        return self.wait(time.monotonic() - self._begun + seconds)

    def wait(self, kill_after: float | None = None) -> Ended:
        """How it has ended: by SIGKILL, if it takes too long."""
        end = self._begun + (SECONDS_TO_HANG if kill_after is None else kill_after)
        status = None
        while status is None:
            pid, found = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status = found
            elif time.monotonic() > end:
                os.kill(self.pid, 9)
                _, status = os.waitpid(self.pid, 0)
            else:
                time.sleep(0.002)
        text = self._said.read_text(errors="replace")
        self._said.unlink()
        return Ended(os.waitstatus_to_exitcode(status), text, time.monotonic() - self._begun)


def _be_child(
    module: str, argv: list[str], here: Path, said: Path, before: Callable[[], None] | None
) -> None:
    code = 70
    try:
        os.chdir(here)
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        if before is not None:
            before()
        code = importlib.import_module(module).main(argv)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def train(study: str, folder: Path) -> list[Ended]:
    """The small run of a study, undisturbed."""
    return [run(f"apps.{study}.train", arguments(study, folder), folder.parent)]


class Calm:
    """What is done undisturbed, a folder a study, each made when it is first asked for.

    Args:
        folder: of all.
        make: does it, in a folder there; says how each of its processes ended.
    """

    def __init__(self, folder: Path, make: Callable[[str, Path], list[Ended]] = train) -> None:
        prepare(folder)
        self.folder = folder
        self._make = make
        self._seconds: dict[str, float] = {}

    def run(self, study: str) -> Path:
        """The folder of a study."""
        folder = self.folder / f"calm_{study}"
        if study not in self._seconds:
            ended = self._make(study, folder)
            assert not any(one.code for one in ended), ended
            self._seconds[study] = max(one.seconds for one in ended)
        return folder

    def seconds(self, study: str) -> float:
        """What that of a study took."""
        self.run(study)
        return self._seconds[study]

    def compare(self, study: str, run_folder: Path) -> str | None:
        """None where a run ended as the calm one of its study."""
        calm = self.run(study)
        if not same_end(calm, run_folder):
            return f"{study}: other weights or rows than a calm run"
        names = {path.name for path in run_folder.iterdir()} - {path.name for path in calm.iterdir()}
        return f"{study}: left over: {sorted(names)}" if names else None


@functools.cache
def calm_training(folder: Path) -> Calm:
    """Undisturbed runs, for all campaigns in this folder: each is made once for all of them."""
    shared = folder / "training"
    shared.mkdir()
    return Calm(shared)

"""The wrapper of every verb: what is printed where, and the exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import TOY, ToyConfig

import nanollama.streams
from nanollama.cli.new_study import write_study
from nanollama.config import load_config
from nanollama.entrypoint import guard, help_text, run_main
from nanollama.errors import Preempted, UserError
from nanollama.studies import NoStudies, find_root

PROGRAM = """\
import sys
from toy import ToyConfig
from nanollama.entrypoint import run_main

def run(config):
    print(config)

if __name__ == "__main__":
    sys.exit(run_main(ToyConfig, run))
"""


@pytest.fixture(autouse=True)
def toy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    Path("toy.yaml").write_text(TOY)


def never(config: ToyConfig) -> None:
    raise AssertionError("must not run")


def raising(error: BaseException) -> Callable[[ToyConfig], None]:
    def run(config: ToyConfig) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "Out of memory: let"),
        (RuntimeError("[alloc.cpp:1] can't allocate memory: you tried to allocate 400 bytes. Error code 12"),
         "Out of memory, when 400 bytes were asked for: let"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA. Tried to allocate 2.00 GiB. GPU 0"),
         "Out of memory, when 2.00 GiB were asked for: let"),
    ],
)  # fmt: skip
def test_too_little_memory_is_a_sentence_of_the_process_that_lacks_it(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert guard(lambda: raising(error)(None)) == 1  # type: ignore[arg-type, func-returns-value]
    printed = capsys.readouterr().err
    assert printed.startswith(said) and printed.count("\n") == 1


def test_the_verb_gets_the_config() -> None:
    seen: list[ToyConfig] = []
    assert run_main(ToyConfig, seen.append, ["toy.yaml", "seed=5"]) == 0
    assert seen == [load_config(ToyConfig, ["toy.yaml", "seed=5"])]


def test_the_command_line_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ToyConfig] = []
    monkeypatch.setattr(sys, "argv", ["train", "toy.yaml"])
    assert run_main(ToyConfig, seen.append) == 0
    assert seen[0].seed == 3


def test_a_dry_run_prints_a_config_that_loads(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(ToyConfig, never, ["toy.yaml", "seed=5", "--dry-run"]) == 0
    Path("resolved.yaml").write_text(capsys.readouterr().out)
    assert load_config(ToyConfig, ["resolved.yaml"]) == load_config(ToyConfig, ["toy.yaml", "seed=5"])


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_tells_every_key(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(ToyConfig, never, ["toy.yaml", flag], "Does a toy thing.") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: python -m test_entrypoint [config=]PATH [key=value ...]")
    assert "Does a toy thing." in out
    assert "  model.d_model [wide]: an integer >= 1 (required)\n      Width of the model.\n" in out
    assert "  max_minutes: a number > 0 or null (default null)\n" in out


def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = help_text(ToyConfig, "toy", "words " * 40).splitlines()
    assert [line for line in lines if line.startswith("words")] == ["words " * 9 + "words"] * 4


def test_no_argument_is_told_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(ToyConfig, never, []) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "usage: python -m test_entrypoint [config=]PATH [key=value ...] [--dry-run] [--help]\n"
        "`python -m test_entrypoint --help` lists the keys.\n"
    )


def test_a_wrong_config_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(ToyConfig, never, ["toy.yaml", "seed=x", "name=3"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "command line: seed=x: expected an integer >= 0, got 'x'.",
        "command line: name=3: expected a text with at least 1 character and matching `^[^/]*$`, got 3.",
    ]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("The file is short."), 2, "The file is short.\n"),
        (Preempted("Saved step 7."), 75, "Saved step 7.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x"),
            1,
            "/x: No space left on device: make room, and run the same command again, "
            "without overwrite=true if it has that.\n",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            1,
            "Disk quota exceeded: make room, and run the same command again, "
            "without overwrite=true if it has that.\n",
        ),
        (
            OSError(errno.EFBIG, "File too large", "/x"),
            1,
            "/x: File too large: allow larger files (`ulimit -f`), and run the same command again, "
            "without overwrite=true if it has that.\n",
        ),
        (
            OSError(errno.EIO, "Input/output error", "/x"),
            1,
            "/x: Input/output error: look after this disk or its mount, and run the same command again, "
            "without overwrite=true if it has that.\n",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "/x"),
            2,
            "/x: no such file or folder, the name is longer than any can be.\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            2,
            "/x: Permission denied: choose another place, or change who may use this one.\n",
        ),
    ],
)
def test_what_a_verb_raises_is_told(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(ToyConfig, raising(error), ["toy.yaml"]) == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), AttributeError("a bug"), BrokenPipeError("a bug"), OSError("a bug")]
)
def test_a_bug_shows_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(ToyConfig, raising(error), ["toy.yaml"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith(f"{type(error).__name__}: a bug\n")


def test_no_message_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise UserError("Line one says \x1b[2J,\nline two \x9b1m.")

    assert guard(refuse) == 2
    assert capsys.readouterr().err == "Line one says \ufffd[2J,\nline two \ufffd1m.\n"


@pytest.mark.parametrize(("rank", "message"), [("0", "No.\n"), ("1", "")])
def test_of_several_processes_the_first_speaks(
    rank: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert guard(lambda: raising(UserError("No."))(None)) == 2  # type: ignore[arg-type, func-returns-value]
    assert capsys.readouterr().err == message


def test_work_may_have_its_own_exit_code() -> None:
    assert [guard(lambda: None), guard(lambda: 0), guard(lambda: 75)] == [0, 0, 75]


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    """A command that runs the wrapper as users do, in a process of its own."""
    Path("toy_verb.py").write_text(PROGRAM)
    return [sys.executable, "-m", "toy_verb"]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONWARNINGS", "error")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [["--help"], ["toy.yaml", "--dry-run"]])  # more and less than a buffer
@pytest.mark.usefixtures("environment")
def test_a_reader_that_leaves_is_no_error(
    program: list[str], argv: list[str], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with subprocess.Popen(
        [*program, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.usefixtures("environment")
def test_a_message_that_nobody_reads_keeps_its_exit_code(program: list[str]) -> None:
    with subprocess.Popen(program, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == 2


@pytest.mark.usefixtures("environment")
def test_the_module_that_runs_is_named(program: list[str]) -> None:
    finished = subprocess.run(program, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: python -m toy_verb [config=]PATH")


STREAMS = """\
import os, subprocess, sys
from nanollama.entrypoint import guard

def work():
    print("said")
    print("said", file=sys.stderr, flush=True)
    assert all(stream.fileno() == number for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)))
    assert sys.stdin.read() == "" and not sys.stdin.isatty()
    subprocess.run(["cat"], check=True)
    assert os.open(os.devnull, os.O_RDONLY) > 2

sys.exit(guard(work))
"""


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    Path("streams.py").write_text(STREAMS)
    command = f"exec {sys.executable} streams.py {closed}"
    finished = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    out, err = ("" if sign in closed.split() else "said\n" for sign in (">&-", "2>&-"))
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, out, err)


RICH = """\
import sys
from rich.console import Console
from nanollama.entrypoint import guard
sys.exit(guard(lambda: [Console().print("line") for _ in range(10_000)] and None))
"""


@pytest.mark.usefixtures("environment")
def test_a_reader_that_leaves_is_no_error_of_a_console_either() -> None:
    Path("rich_verb.py").write_text(RICH)
    with subprocess.Popen(
        [sys.executable, "rich_verb.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("argv", [["--help"], ["completion", "bash"], ["runs", "--help"]])
def test_a_reader_that_leaves_is_no_error_of_nanollama_itself(argv: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "nanollama", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def owned_by(user: int) -> Callable[..., os.stat_result]:
    """What `Path.stat` is where all is somebody's."""

    def stat(path: Path, **options: bool) -> os.stat_result:
        found = os.stat(path, **options)
        return os.stat_result((*found[:4], user, *found[5:]))

    return stat


def test_code_of_strangers_is_not_found_by_what_lies_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "theirs" / "apps" / "evil" / "settings.py"
    run = tmp_path / "theirs" / "runs" / "one"
    for folder in (settings.parent, run, tmp_path / "here"):
        folder.mkdir(parents=True)
    settings.write_text("")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.chdir(tmp_path / "here")
    assert find_root(run / "config.yaml") == tmp_path / "theirs"
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.setattr(Path, "stat", owned_by(4712))
    theirs = f"The code of .*apps is another user's, .*run this command in {tmp_path / 'theirs'}"
    with pytest.raises(UserError, match=theirs):
        find_root(run / "config.yaml")
    with pytest.raises(NoStudies, match="nor a folder of yours around it has apps/"):
        find_root()
    monkeypatch.chdir(run)
    with pytest.raises(UserError, match=theirs):
        find_root()
    with pytest.raises(UserError, match=theirs):
        write_study("mine")
    monkeypatch.chdir(tmp_path / "theirs")
    assert find_root() == tmp_path / "theirs"  # where somebody has gone to run it


def test_a_folder_that_has_been_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert guard(lambda: find_root() and None) == 2
    told = capsys.readouterr().err
    assert told == "The folder that this command was called in has been removed: change to another one.\n"


def test_a_captured_output_is_not_taken_for_a_reader_that_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert not nanollama.streams.reader_left()

"""The one wrapper of every ``python -m apps.<study>.<verb>``: arguments in, exit code out.

A verb is a function of a validated config. ``run_main`` reads the config, prints help or the resolved config
when asked to, and turns what went wrong into the message and the exit code that users and schedulers rely on.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from nanollama.config import C, Config, RunConfig, dump_config, load_config
from nanollama.config.keys import describe_keys
from nanollama.config.moved import check_place
from nanollama.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_PREEMPTED,
    EXIT_USER_ERROR,
    REMEDIES,
    Preempted,
    UserError,
)
from nanollama.failures import explain
from nanollama.streams import EXIT_BROKEN_PIPE, is_broken_pipe, open_streams, reader_left
from nanollama.wording import printable

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""What a user may have to change about a file or folder; all else about files is a failure of ours."""

HELP_FLAGS = frozenset({"--help", "-h"})
DRY_RUN_FLAG = "--dry-run"


def run_main(
    config_class: type[C],
    run: Callable[[C], int | None],
    argv: Sequence[str] | None = None,
    description: str = "",
    program: str | None = None,
    shows: bool = False,
) -> int:
    """Run a verb on the config that the arguments name.

    Args:
        config_class: what the config must be.
        run: does the work; may return an exit code of its own, such as 1 when what was expected did not come.
        argv: ``[config=]PATH [key=value ...]``, ``--help``, ``--dry-run``; the command line when None.
        description: what the verb does, for the help text.
        program: what is typed; by default ``python -m`` and the module of ``run``.
        shows: it only shows something of a run, whose folder does not matter.

    Returns:
        The exit code: 0 finished, 2 wrong input, 75 preempted, 130 interrupted, 1 anything else.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = program or _program_name(run)

    def work() -> int | None:
        if HELP_FLAGS.intersection(arguments):
            print(help_text(config_class, program, description), end="")
            return EXIT_OK
        if not arguments:
            raise UserError(f"{_usage(program)}\n`{program} --help` lists the keys.")
        keys = [item for item in arguments if item != DRY_RUN_FLAG]
        config = load_config(config_class, keys)
        if isinstance(config, RunConfig) and not shows:
            check_place(keys, config.folder)
        if DRY_RUN_FLAG in arguments:
            print(dump_config(config), end="")
            return EXIT_OK
        return run(config)

    return guard(work)


def guard(work: Callable[[], int | None]) -> int:
    """Do the work and turn what it raises into a message on stderr and an exit code; else its code, or 0."""
    open_streams()
    try:
        code = work()
        print(end="", flush=True)
    except UserError as error:
        _say(str(error))
        return EXIT_USER_ERROR
    except Preempted as error:
        _say(str(error))
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED
    except SystemExit as error:
        if is_broken_pipe(error):
            return EXIT_BROKEN_PIPE
        raise
    except BrokenPipeError:
        if reader_left():
            return EXIT_BROKEN_PIPE
        traceback.print_exc()
        return EXIT_FAILED
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _folder_is_gone():
            _say("The folder that this command was called in has been removed: change to another one.")
            return EXIT_USER_ERROR
        if error.errno == errno.ENAMETOOLONG:
            _say(f"{_file_of(error)}no such file or folder, the name is longer than any can be.")
            return EXIT_USER_ERROR
        if remedy := REMEDIES.get(error.errno or 0):
            _say(
                f"{_file_of(error)}{error.strerror}: {remedy}, and run the same command again, without "
                "overwrite=true if it has that."
            )
            return EXIT_FAILED
        if error.errno not in FORBIDDEN or error.filename is None:
            traceback.print_exc()
            return EXIT_FAILED
        _say(f"{error.filename}: {error.strerror}: choose another place, or change who may use this one.")
        return EXIT_USER_ERROR
    except Exception as error:
        if (said := explain(error)) is None:
            traceback.print_exc()
        else:
            _say(said, of_all=True)
        return EXIT_FAILED
    return code or EXIT_OK


def _folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _file_of(error: OSError) -> str:
    return "" if error.filename is None else f"{error.filename}: "


class Parser(argparse.ArgumentParser):
    """Options of a command; what is wrong with them is a `UserError`, and not the end of the process.

    Args:
        prog: what is typed.
        hint: said behind what is wrong; by default, that ``--help`` lists what can be given.
        rest: as argparse takes it.
    """

    def __init__(self, prog: str | None = None, *, hint: str = "", **rest: Any) -> None:
        super().__init__(prog, allow_abbrev=False, **rest)
        self.hint = hint or f"; `{self.prog} --help` lists what can be given."

    def error(self, message: str) -> NoReturn:
        """Raise what argparse has to say as a sentence."""
        raise UserError(f"{message[0].upper()}{message[1:]}{self.hint}")


def help_text(config_class: type[Config], program: str, description: str = "") -> str:
    """Usage and all keys of a config class with what they expect, their defaults and descriptions."""
    lines = [_usage(program), ""]
    if description:
        lines += [*_wrap(description, ""), ""]
    lines += [
        "  PATH         YAML file with the config; `base: FILE` in it names a file to build on",
        "  key=value    sets a key, the value is YAML: model.d_model=32, sources.0.weight=2, 'model={...}'",
        "  --dry-run    print the resolved config and stop",
        "  --help       print this and stop",
        "",
        "keys:",
    ]
    lines += key_lines(config_class)
    return "\n".join(lines) + "\n"


def key_lines(config_class: type[Config], prefix: str = "") -> Iterator[str]:
    """What help says of the keys of a config class, which may be a section of another under a prefix."""
    for info in describe_keys(config_class):
        default = "required" if info.default is None else f"default {info.default}"
        variant = f" [{info.variant}]" if info.variant else ""
        yield f"  {prefix}{info.key}{variant}: {info.expected} ({default})"
        yield from _wrap(info.description, "      ")


def _wrap(text: str, indent: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, 110)
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _usage(program: str) -> str:
    return f"usage: {program} [config=]PATH [key=value ...] [--dry-run] [--help]"


def _program_name(run: Callable[..., int | None]) -> str:
    """The command that calls ``run``, which is usually defined in the module that is executed."""
    module = run.__module__
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if module == "__main__" and spec is not None:
        module = spec.name
    return f"python -m {module}"


def _say(message: str, of_all: bool = False) -> None:
    """One message a command: of the processes that torchrun starts, the first speaks, if not all may."""
    if of_all or os.environ.get("RANK", "0") == "0":
        with suppress(OSError):  # nobody reads it any more: the exit code still tells
            print(printable(message), file=sys.stderr)  # which may quote the file of a stranger

"""The arguments of a command that reads a config: its path, and keys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nanollama.errors import ConfigError
from nanollama.wording import shorten


@contextmanager
def noted(problems: list[str] | None) -> Iterator[None]:
    """Add what is wrong to the other problems of a config, to be said with them; None: raise it."""
    try:
        yield
    except ConfigError as error:
        if problems is None:
            raise
        problems.append(str(error))


def split_arguments(argv: Sequence[str], problems: list[str] | None = None) -> tuple[str, list[str]]:
    """The path of the config, and the keys after it, as they were typed.

    Args:
        argv: the arguments.
        problems: gets a line an unknown option, which is passed over; None: the first raises.

    Raises:
        ConfigError: no path or two, or an argument that is not ``key=value``.
    """
    paths, overrides = [], []
    for position, argument in enumerate(argv):
        is_value = position > 1 and "=" not in argument and "=" not in argv[position - 1]
        if argument.startswith("-"):
            with noted(problems):
                raise _unknown_option(argument)
        elif is_value and argv[position - 1].startswith("-"):
            continue  # of the unknown option before
        elif argument.startswith("config="):
            paths.append(argument.removeprefix("config="))
        elif position == 0 and ("=" not in argument or os.path.isfile(argument)):
            paths.append(argument)
        else:
            overrides.append(argument)
    if not paths or not paths[0]:
        missing = "command line: no config given; expected `[config=]PATH [key=value ...]`."
        raise ConfigError("\n".join([*(problems or []), missing]))
    if len(paths) > 1:
        raise ConfigError(f"command line: two configs given, '{paths[0]}' and '{paths[1]}'; expected one.")
    return paths[0], overrides


def _unknown_option(argument: str) -> ConfigError:
    key, equals, _ = argument.lstrip("-").partition("=")
    hint = ", such as `model.d_model=32`."
    hint = f"; did you mean '{argument.lstrip('-')}'?" if key and equals else hint
    return ConfigError(
        f"command line: {shorten(argument)}: unknown option, keys are set by `key=value`{hint}"
    )

"""What several commands take, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from nanollama.cli import complete

ConfigArgument = Annotated[
    str | None,
    typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False, autocompletion=complete.configs),
]
KeyArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Keys to set.", show_default=False, autocompletion=complete.keys
    ),
]
RunKeyArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Keys of the run: data_root=DIR, training.device=cpu, recall.max_new_tokens=N.",
        show_default=False,
    ),
]
GridArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="YAML file with a grid.",
        show_default=False,
        autocompletion=complete.configs,
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False, autocompletion=complete.runs),
]
RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False, autocompletion=complete.runs),
]
FolderArgument = Annotated[
    str, typer.Argument(metavar="DIR", help="Folder of a Hugging Face model.", show_default=False)
]
FoldersArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FOLDER",
        help="Of runs, or that hold some (default: runs).",
        show_default=False,
        autocompletion=complete.runs,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier one wrote.")]

# Such a command explains itself: `nanollama train CONFIG --help` lists the keys of that config.
PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


def pass_on(
    context: typer.Context,
    command: Callable[[Sequence[str]], int],
    config: str | None,
    keys: Sequence[str] | None,
) -> None:
    """Give all arguments to a command that explains itself."""
    if config is None:
        print(context.get_help())
        raise typer.Exit(2)
    raise typer.Exit(command([config, *(keys or [])]))


def finish(work: Callable[[], int | None]) -> NoReturn:
    """Do the work and end with its exit code."""
    from nanollama.entrypoint import guard

    raise typer.Exit(guard(work))

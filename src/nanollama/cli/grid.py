"""The commands ``nanollama grid ...``."""

from __future__ import annotations

from typing import Annotated

import typer

from nanollama.cli.arguments import PASS_ON, ConfigArgument, GridArgument, KeyArguments, finish, pass_on
from nanollama.cli.groups import VerbGroup

grid = typer.Typer(
    cls=VerbGroup,
    help="Run a grid of runs here, and see what became of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@grid.command(name="run", context_settings=PASS_ON)
def run_grid(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Run what is missing of the grid of CONFIG. Ctrl-C saves and stops; --dry-run lists the runs."""
    from nanollama.launcher.local.run import main as local_main

    pass_on(context, local_main, config, keys)


@grid.command(name="status")
def grid_status(config: GridArgument, keys: KeyArguments = None) -> None:
    """Print how many runs are in which state. What failed is told with its reason."""
    from nanollama.launcher.grid import commands

    finish(lambda: commands.status([config, *(keys or [])]))


@grid.command(name="retry")
def grid_retry(config: GridArgument, keys: KeyArguments = None) -> None:
    """Let what has failed go on, and nothing else. With overwrite=true that and what is stale, anew."""
    from nanollama.launcher.grid import commands

    finish(lambda: commands.retry([config, *(keys or [])]))


@grid.command(name="logs")
def grid_logs(
    config: GridArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.", show_default=False)],
    keys: KeyArguments = None,
) -> None:
    """Print what the processes of a run printed."""
    from nanollama.launcher.grid import commands

    finish(lambda: commands.logs([config, *(keys or [])], run))


@grid.command(name="results")
def grid_results(
    config: GridArgument,
    keys: KeyArguments = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Table to write, .csv or .parquet.", show_default=False),
    ] = None,
) -> None:
    """Collect the results of all runs into one table. Prints means over seeds."""
    from nanollama.launcher.grid import commands

    finish(lambda: commands.results([config, *(keys or [])], out))


@grid.command(name="record")
def grid_record(config: GridArgument, keys: KeyArguments = None) -> None:
    """Record what a finished grid of a study has brought out. `nanollama book` reads it."""
    from nanollama.launcher.grid.record import record

    finish(lambda: print(f"wrote {record([config, *(keys or [])])}"))

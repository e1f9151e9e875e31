"""The commands ``nanollama grid ...``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nanollama.cli.arguments import PASS_ON, ConfigArgument, GridArgument, KeyArguments, finish, pass_on


class _GridGroup(TyperGroup):
    """Tells who gives a config where a verb belongs which verbs there are."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See click; a config is no verb."""
        if args and args[0] not in self.commands and ("/" in args[0] or args[0].endswith((".yaml", ".yml"))):
            verbs = "|".join(self.commands)
            ctx.fail(f"A verb is missing before the config: `nanollama grid {verbs} {args[0]}`.")
        return super().resolve_command(ctx, args)


grid = typer.Typer(
    cls=_GridGroup,
    help="Run a grid of runs on this machine, and see what became of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@grid.command(name="run", context_settings=PASS_ON)
def run_grid(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Run what is missing of the grid of CONFIG; Ctrl-C saves and stops. --dry-run lists the runs."""
    from nanollama.launcher.local.run import main as local_main

    pass_on(context, local_main, config, keys)


@grid.command(name="status")
def grid_status(config: GridArgument, keys: KeyArguments = None) -> None:
    """Print how many runs are in which state, and what failed with its reason."""
    from nanollama.launcher.grid import commands

    finish(lambda: commands.status([config, *(keys or [])]))


@grid.command(name="retry")
def grid_retry(config: GridArgument, keys: KeyArguments = None) -> None:
    """Let what has failed go on, and nothing else; with overwrite=true that and what is stale, anew."""
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
    """Collect the results of all runs into one table; print means over seeds."""
    from nanollama.launcher.grid import commands

    finish(lambda: commands.results([config, *(keys or [])], out))

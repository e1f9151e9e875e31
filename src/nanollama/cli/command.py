"""The command ``nanollama``: the verbs of all studies in one place, and what needs no study.

A verb of a study is looked up by the config's key ``study`` and given the arguments as they are, so that
``nanollama train CONFIG seed=1`` and ``python -m apps.<study>.train CONFIG seed=1`` are the same command.
Nothing heavy is imported before a verb needs it: `nanollama --help` must answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import nanollama

ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False)
]
KeyArguments = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys to set.", show_default=False)
]
GridArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="YAML file with a grid.", show_default=False)
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)]
FolderArgument = Annotated[
    str, typer.Argument(metavar="DIR", help="Folder of a Hugging Face model.", show_default=False)
]
FoldersArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FOLDER", help="Of runs, or that hold some (default: runs).", show_default=False),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier one wrote.")]

# Such a command explains itself: `nanollama train CONFIG --help` lists the keys of that config.
PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    help="A laboratory for small language models: train CONFIG, then eval, chat and report on the run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Look at the data of a config.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")
new = typer.Typer(help="Begin something of one's own.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(new, name="new")
export = typer.Typer(help="Take a run elsewhere.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(export, name="export")
import_ = typer.Typer(help="Make a run of what is elsewhere.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(import_, name="import")


runs = typer.Typer(help="List, compare, verify and delete runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(runs, name="runs")


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
app.add_typer(grid, name="grid")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nanollama`` with these arguments, the command line's when None; returns the exit code."""
    try:
        app(args=None if argv is None else list(argv), prog_name="nanollama")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        print(nanollama.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A laboratory for small language models: train CONFIG, then eval, chat and report on the run."""


@app.command(context_settings=PASS_ON)
def train(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Train the model of CONFIG, or go on where its run stopped."""
    _run_verb(context, "train", config, keys)


@app.command(name="eval", context_settings=PASS_ON)
def evaluate(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Evaluate the checkpoint that CONFIG names."""
    _run_verb(context, "eval", config, keys)


@data.command(name="show", context_settings=PASS_ON)
def show_data(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Print a batch, and what of it is learned."""
    if config in (None, "--help", "-h"):
        print(context.get_help())
        raise typer.Exit(2 if config is None else 0)
    _finish(lambda: _show([config, *(keys or [])]))


@app.command(context_settings=PASS_ON)
def launch(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Submit CONFIG to Slurm, a grid as one array."""
    from nanollama.launcher.slurm.submit import main as launch_main

    _pass_on(context, launch_main, config, keys)


@grid.command(name="run", context_settings=PASS_ON)
def run_grid(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Run what is missing of the grid of CONFIG; Ctrl-C saves and stops. --dry-run lists the runs."""
    from nanollama.launcher.local.run import main as local_main

    _pass_on(context, local_main, config, keys)


@grid.command(name="status")
def grid_status(config: GridArgument, keys: KeyArguments = None) -> None:
    """Print how many runs are in which state, and what failed with its reason."""
    from nanollama.launcher.grid import commands

    _finish(lambda: commands.status([config, *(keys or [])]))


@grid.command(name="retry")
def grid_retry(config: GridArgument, keys: KeyArguments = None) -> None:
    """Let what has failed go on, and nothing else; with overwrite=true that and what is stale, anew."""
    from nanollama.launcher.grid import commands

    _finish(lambda: commands.retry([config, *(keys or [])]))


@grid.command(name="logs")
def grid_logs(
    config: GridArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.", show_default=False)],
    keys: KeyArguments = None,
) -> None:
    """Print what the processes of a run printed."""
    from nanollama.launcher.grid import commands

    _finish(lambda: commands.logs([config, *(keys or [])], run))


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

    _finish(lambda: commands.results([config, *(keys or [])], out))


@app.command(context_settings={"ignore_unknown_options": True})
def chat(run: RunArgument, keys: KeyArguments = None) -> None:
    """Ask the model of a run and watch its tool calls."""
    from nanollama import studies

    _finish(lambda: studies.run_verb_of("chat", run, keys or []))


@app.command(context_settings=PASS_ON)
def report(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False)
    ] = None,
) -> None:
    """Make tables, figures and one HTML page of runs; `report PAGE RUN` draws a page of the run's study."""
    _finish(lambda: _report(runs or []))


@runs.command(name="list")
def list_runs(
    folders: FoldersArgument = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Such as d_model=64 or 'accuracy>0.9'.", show_default=False),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="NAME", help="A measure, key, state or MB.", show_default=False)
    ] = None,
) -> None:
    """Print a table of runs: state, size on disk, last measures, and what differs."""
    from nanollama.cli import runs

    _finish(lambda: runs.list_runs(folders or [], where or [], sort))


@runs.command(name="compare")
def compare_runs(folders: FoldersArgument = None) -> None:
    """Print what differs between the configs of runs, and what they measured."""
    from nanollama.cli import runs

    _finish(lambda: runs.compare_runs(folders or []))


@runs.command(name="verify")
def verify_runs(folders: FoldersArgument = None) -> None:
    """Compare all checkpoints with the hashes of their manifests."""
    from nanollama.cli import runs

    _finish(lambda: runs.verify_runs(folders or []))


@runs.command(name="delete")
def delete_runs(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Folders of runs.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Remove what runs have left, after a question."""
    from nanollama.cli import runs

    _finish(lambda: runs.delete_runs(folders, yes))


@app.command(context_settings=PASS_ON)
def watch(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|GRID|FOLDER", help="Of runs, or the config of a grid.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve a page on this machine alone that follows runs and grids while they go."""
    from nanollama.watch import main as watch_main

    raise typer.Exit(watch_main(what or []))


@app.command()
def book(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY", help="Of these alone.", show_default=False)
    ] = None,
) -> None:
    """Print every claim of every grid as Markdown, with its verdict, or what it takes to run."""
    from nanollama.launcher.grid.book import write_book

    _finish(lambda: print(write_book(studies or []), end=""))


@export.command(name="hf")
def export_hf(run: RunArgument, folder: FolderArgument, overwrite: OverwriteOption = False) -> None:
    """Write model, tokenizer and model card of RUN into DIR, for from_pretrained of transformers."""
    from nanollama.exchange.export import export_hf as write

    _finish(lambda: print(write(Path(run), Path(folder), overwrite)))


@import_.command(name="hf")
def import_hf(
    folder: FolderArgument,
    run: RunArgument,
    config: ConfigArgument = None,
    keys: KeyArguments = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make the finished run RUN of the model in DIR; CONFIG names the study that it shall belong to."""
    from nanollama.exchange.imported import import_hf as read

    argv = [] if config is None else [config, *(keys or [])]
    _finish(lambda: print(read(Path(folder), Path(run), argv, overwrite)))


@app.command(name="lm-eval", context_settings=PASS_ON)
def lm_eval(arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENTS")] = None) -> None:
    """Run lm_eval, which then knows runs: --model nanollama --model_args run=RUN --tasks TASK."""
    from nanollama.exchange.harness import main as harness_main

    _finish(lambda: harness_main(arguments or []))


@new.command(name="study")
def new_study(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Small letters, digits, underscores.", show_default=False)
    ],
) -> None:
    """Write a small study that works, with configs, a grid with a claim and a test, to begin with."""
    from nanollama.cli.new_study import write_study

    _finish(lambda: print(write_study(name)))


@app.command()
def schema(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.", show_default=False)],
    config: Annotated[str, typer.Option(help="Which config of the study, such as eval.")] = "train",
    write: Annotated[bool, typer.Option("--write", help="Write those of all its configs.")] = False,
) -> None:
    """Print the JSON schema of a study's config, for editors; --write puts it where configs look for it."""
    _finish(lambda: _schema(study, config, write))


@app.command()
def doctor(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Try all that runs need of a GPU: two minutes, on the first one.")
    ] = False,
) -> None:
    """Print what this machine and this installation can do."""
    _finish(_examine_gpu if gpu else _examine)


def _examine() -> None:
    from nanollama.cli.doctor import examine

    print(examine(), end="")


def _examine_gpu() -> int:
    from nanollama.cli.doctor_gpu import examine_gpu

    return examine_gpu()


def _run_verb(context: typer.Context, verb: str, config: str | None, keys: Sequence[str] | None) -> None:
    if config in (None, "--help", "-h"):
        print(context.get_help())
        raise typer.Exit(2 if config is None else 0)
    from nanollama import studies

    _finish(lambda: studies.run_verb(verb, [config, *(keys or [])]))


def _pass_on(
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


def _report(runs: Sequence[str]) -> int | None:
    """The page of some runs, or one of the pages that a study draws of a run: ``PAGE RUN``."""
    from nanollama import studies
    from nanollama.report import main as report_main

    if len(runs) > 1 and not Path(runs[0]).exists() and studies.is_page(runs[0]):
        return studies.run_verb_of(runs[0], runs[1], runs[2:])
    return report_main(runs)


def _show(argv: Sequence[str]) -> int:
    """As the study shows its batches, if it does that better than any study's can be shown."""
    from nanollama import studies

    study = studies.find_study(studies.study_of(argv))
    if "show" in study.commands:
        return studies.run_verb("show", argv)
    from nanollama.cli.show import show_batch

    return show_batch(study, argv)


def _finish(work: Callable[[], int | None]) -> NoReturn:
    from nanollama.entrypoint import guard

    raise typer.Exit(guard(work))


def _schema(name: str, config: str, write: bool) -> None:
    from nanollama.cli.schema import schema_text, write_schemas
    from nanollama.studies import find_study

    study = find_study(name)
    if not write:
        return print(schema_text(study, config), end="")
    for path in write_schemas(study, study.folder):
        print(f"wrote {os.path.relpath(path)}")

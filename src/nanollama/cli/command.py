"""The command ``nanollama``: the verbs of all studies in one place, and what needs no study.

A verb of a study is looked up by the config's key ``study`` and given the arguments as they are, so that
``nanollama train CONFIG seed=1`` and ``python -m apps.<study>.train CONFIG seed=1`` are the same command.
Nothing heavy is imported before a verb needs it: `nanollama --help` must answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import nanollama
from nanollama.cli import complete
from nanollama.cli.arguments import (
    PASS_ON,
    ConfigArgument,
    FolderArgument,
    FoldersArgument,
    KeyArguments,
    OverwriteOption,
    RunArgument,
    RunKeyArguments,
    RunsArgument,
    finish,
    pass_on,
)
from nanollama.cli.grid import grid
from nanollama.cli.groups import RootGroup, VerbGroup
from nanollama.errors import UserError
from nanollama.streams import EXIT_BROKEN_PIPE, is_broken_pipe, open_streams, reader_left

app = typer.Typer(
    cls=RootGroup,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="A laboratory for small language models: train CONFIG, then eval, chat and report on the run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data = typer.Typer(
    cls=VerbGroup, help="Look at the data of a config.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data, name="data")
new = typer.Typer(
    cls=VerbGroup, help="Begin something of one's own.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(new, name="new")
export = typer.Typer(cls=VerbGroup, help="Take a run elsewhere.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(export, name="export")
import_ = typer.Typer(
    cls=VerbGroup, help="Make a run of what is elsewhere.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(import_, name="import")


runs = typer.Typer(help="List, compare, verify and delete runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(runs, name="runs")
app.add_typer(grid, name="grid")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``nanollama`` with these arguments, the command line's when None; returns the exit code."""
    open_streams()
    if complete.VARIABLE in os.environ:
        from typer.completion import completion_init

        completion_init()
    code = 0
    try:
        app(args=None if argv is None else list(argv), prog_name="nanollama")
    except SystemExit as error:
        if is_broken_pipe(error):
            return EXIT_BROKEN_PIPE
        code = error.code if isinstance(error.code, int) else 0
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        if reader_left():
            return EXIT_BROKEN_PIPE
        raise
    return code


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
    finish(lambda: _show([config, *(keys or [])]))


@app.command(context_settings=PASS_ON)
def launch(context: typer.Context, config: ConfigArgument = None, keys: KeyArguments = None) -> None:
    """Submit CONFIG to Slurm, a grid as one array."""
    from nanollama.launcher.slurm.submit import main as launch_main

    pass_on(context, launch_main, config, keys)


@app.command(context_settings={"ignore_unknown_options": True})
def chat(
    run: RunArgument,
    keys: RunKeyArguments = None,
    web: Annotated[bool, typer.Option("--web", help="On a page of this machine alone.")] = False,
    port: Annotated[int, typer.Option(metavar="N", help="Of the page; 0: any that is free.")] = 0,
) -> None:
    """Ask the model of a run and watch its tool calls."""
    from nanollama import studies

    page = ["--web", "--port", str(port)] if web else []
    finish(lambda: studies.run_verb_of("chat", run, [*(keys or []), *page]))


@app.command(context_settings=PASS_ON)
def report(runs: RunsArgument = None) -> None:
    """Make one HTML page of runs. `report attention RUN` shows where a model looks."""
    finish(lambda: _report(runs or []))


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
    """Print a table of runs. State, size on disk, last measures, and what differs."""
    from nanollama.cli import runs

    finish(lambda: runs.list_runs(folders or [], where or [], sort))


@runs.command(name="compare")
def compare_runs(folders: FoldersArgument = None) -> None:
    """Print how runs differ in config and measures."""
    from nanollama.cli import runs

    finish(lambda: runs.compare_runs(folders or []))


@runs.command(name="verify")
def verify_runs(folders: FoldersArgument = None) -> None:
    """Compare all checkpoints with the hashes of their manifests."""
    from nanollama.cli import runs

    finish(lambda: runs.verify_runs(folders or []))


@runs.command(name="delete")
def delete_runs(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Folders of runs.", show_default=False, autocompletion=complete.runs
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Remove what runs have left, after a question."""
    from nanollama.cli import delete

    finish(lambda: delete.delete_runs(folders, yes))


@app.command(context_settings=PASS_ON)
def watch(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|GRID|FOLDER",
            help="Of runs, or the config of a grid.",
            show_default=False,
            autocompletion=complete.runs_and_configs,
        ),
    ] = None,
) -> None:
    """Serve a page that follows runs and grids while they go. It is for this machine alone."""
    from nanollama.watch import main as watch_main

    raise typer.Exit(watch_main(what or []))


@app.command()
def book(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY",
            help="Of these alone.",
            show_default=False,
            autocompletion=complete.studies,
        ),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run what is missing of all grids first.")] = False,
) -> None:
    """Print every claim of every grid with its verdict. As Markdown, with what the others take to run."""
    finish(lambda: _book(studies or [], run))


def _book(studies: Sequence[str], run: bool) -> int:
    from nanollama.launcher.grid.book import claiming, write_book

    codes = [0]
    if run:
        from nanollama.launcher.local.run import main as run_grid

        for path in claiming(studies):
            print(f"{path}:", flush=True)
            codes.append(run_grid([str(path)]))
            if codes[-1] not in (0, 1):  # stopped, or nothing that the next could do better
                return codes[-1]
    print(write_book(studies), end="")
    return max(codes)


@export.command(name="hf")
def export_hf(run: RunArgument, folder: FolderArgument, overwrite: OverwriteOption = False) -> None:
    """Write RUN as a folder DIR for transformers. Model, tokenizer and model card, for from_pretrained."""
    from nanollama.exchange.export import export_hf as write

    finish(lambda: print(write(Path(run), Path(folder), overwrite)))


@import_.command(name="hf")
def import_hf(
    folder: FolderArgument,
    run: RunArgument,
    config: ConfigArgument = None,
    keys: KeyArguments = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make the finished run RUN of the model in DIR. CONFIG names the study that it shall belong to."""
    from nanollama.exchange.imported import import_hf as read

    argv = [] if config is None else [config, *(keys or [])]
    finish(lambda: print(read(Path(folder), Path(run), argv, overwrite)))


@app.command(name="lm-eval", context_settings=PASS_ON)
def lm_eval(arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGUMENTS")] = None) -> None:
    """Run lm_eval, which then knows runs. --model nanollama --model_args run=RUN --tasks TASK."""
    from nanollama.exchange.harness import main as harness_main

    finish(lambda: harness_main(arguments or []))


@new.command(name="study")
def new_study(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Small letters, digits, underscores.", show_default=False)
    ],
) -> None:
    """Write a small study that works, to begin with. It has configs, a grid with a claim and a test."""
    from nanollama.cli.new_study import write_study

    finish(lambda: print(write_study(name)))


@app.command()
def schema(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="Name of the study.",
            show_default=False,
            autocompletion=complete.studies,
        ),
    ],
    config: Annotated[str, typer.Option(help="Which config of the study, such as eval.")] = "train",
    write: Annotated[bool, typer.Option("--write", help="Write those of all its configs.")] = False,
) -> None:
    """Print the JSON schema of a study's config, for editors. --write puts it where configs look for it."""
    finish(lambda: _schema(study, config, write))


@app.command(name="completion")
def print_completion(
    shell: Annotated[
        str, typer.Argument(metavar="SHELL", help=" or ".join(complete.SHELLS), show_default=False)
    ],
) -> None:
    """Print what lets a shell complete this command. `source <(nanollama completion bash)` does."""
    print(complete.script(shell))


@app.command()
def doctor(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Try all that runs need of a GPU: two minutes, on the first one.")
    ] = False,
) -> None:
    """Print what this machine and this installation can do."""
    finish(_examine_gpu if gpu else _examine)


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

    finish(lambda: studies.run_verb(verb, [config, *(keys or [])]))


def _report(runs: Sequence[str]) -> int | None:
    """The page of some runs, the explorer of one, or a page that a study draws of a run: ``PAGE RUN``."""
    from nanollama import studies
    from nanollama.report import attention
    from nanollama.report import main as report_main

    if runs and runs[0] == attention.PAGE and not Path(runs[0]).exists():
        return attention.main(runs[1:])
    if runs and not Path(runs[0]).exists() and studies.is_page(runs[0]):
        if len(runs) == 1:
            raise UserError(
                f"`{runs[0]}` is a page of a run: name the run, `nanollama report {runs[0]} RUN`."
            )
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


def _schema(name: str, config: str, write: bool) -> None:
    from nanollama.cli.schema import schema_text, write_schemas
    from nanollama.studies import find_study

    study = find_study(name)
    if not write:
        return print(schema_text(study, config), end="")
    for path in write_schemas(study, study.folder):
        print(f"wrote {os.path.relpath(path)}")

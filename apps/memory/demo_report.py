"""What the demo shows: one table, dialogs, figures, a verdict a line, and a page with all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from apps.memory.samples import SET_NAMES
from apps.memory.settings import Expected, MemoryConfig
from nanollama.monitor.files import write_atomically
from nanollama.monitor.log import RunLog
from nanollama.report.command import FORMATS, write_page
from nanollama.report.figures import plot_bars, plot_curves
from nanollama.report.page import Block, Dialogs, Folded, Picture, Section
from nanollama.report.runs import RunRecord, SampleDialog
from nanollama.report.sections import loss_pictures, origin_blocks, speed_blocks
from nanollama.report.style import save_figure
from nanollama.report.tables import Table, measures_table, show_interval, show_measure, show_number
from nanollama.wording import printable

ARMS = {"with_tool": "in-tool", "without_tool": "in-weight"}
PAGE = "index.html"
MAX_CHARACTERS_SHOWN = 240
_SET_ROWS = {
    "trained": "recall: trained people",
    "unseen": "recall: unseen people",
    "new_names": "recall: new names",
}
_ROLE_STYLES = {"user": "bold", "database": "cyan"}


@dataclass(frozen=True)
class Arm:
    """A trained and examined model.

    Args:
        name: ``in-tool`` or ``in-weight``.
        config: of its training run.
        run: what its run folder holds.
        measures: of the final examination.
    """

    name: str
    config: MemoryConfig
    run: RunRecord
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """A share of right answers beside what it should be."""

    what: str
    bound: str
    recall: float
    holds: bool

    @property
    def word(self) -> str:
        """The verdict itself."""
        return "as expected" if self.holds else "MISSED"

    def __str__(self) -> str:
        return f"{self.word}: recall of {self.what}: expected {self.bound}, got {self.recall:.4f}"


def judge(expected: Expected, arms: Sequence[Arm]) -> list[Verdict]:
    """Each expectation with its outcome."""
    in_tool, in_weight = (arm.measures for arm in arms)
    return [
        _at_least("in-tool, trained people", in_tool["recall_trained"], expected.in_tool_trained),
        _at_least("in-tool, unseen people", in_tool["recall_unseen"], expected.in_tool_unseen),
        _at_least("in-weight, trained people", in_weight["recall_trained"], expected.in_weight_trained),
        _at_most("in-weight, unseen people", in_weight["recall_unseen"], expected.in_weight_unseen),
    ]


def write_report(folder: Path, arms: Sequence[Arm], verdicts: Sequence[Verdict], log: RunLog) -> Path:
    """Print table, dialogs and verdicts; write table, figures and page into the folder.

    Returns:
        the path of the page.
    """
    table = comparison_table(arms)
    _print_summary(table, arms)
    for verdict in verdicts:
        log.say(str(verdict))
    write_atomically(folder / "table.md", table.to_markdown())
    write_atomically(folder / "table.csv", table.to_csv())
    pictures = [recall_picture(arms), curves_picture(arms)]
    for picture in pictures:
        for suffix in FORMATS:
            save_figure(picture.figure, folder / f"{picture.name}{suffix}")
    write_page(
        folder / PAGE, "In-weight or in-tool?", _lead(arms), _sections(table, pictures, arms, verdicts)
    )
    return folder / PAGE


def comparison_table(arms: Sequence[Arm]) -> Table:
    """One column a model, one row a question about it."""
    rows = [(label, *(_recall(arm, name) for arm in arms)) for name, label in _SET_ROWS.items()]
    rows += [
        ("valid requests: unseen people", *(_valid_calls(arm) for arm in arms)),
        ("people learned from", *(show_number(arm.config.data.n_people) for arm in arms)),
        ("parameters", *(show_number(arm.run.result.get("n_params")) for arm in arms)),
        ("bits stored per parameter", *(show_number(_bits(arm)) for arm in arms)),
        ("seconds of training", *(show_number(arm.run.result.get("seconds")) for arm in arms)),
    ]
    caption = "In-tool asks a database, in-weight answers by heart [95 % intervals, people as the unit]."
    return Table(caption, ("", *(arm.name for arm in arms)), tuple(rows))


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """One row an expectation."""
    rows = [(verdict.what, verdict.bound, f"{verdict.recall:.4f}", verdict.word) for verdict in verdicts]
    return Table("What had to come out.", ("recall", "expected", "got", "verdict"), tuple(rows))


def recall_picture(arms: Sequence[Arm]) -> Picture:
    """Recall of both models on the three sets, as bars."""
    rows = [
        {
            "run": arm.name,
            "set": label.removeprefix("recall: "),
            "recall": arm.measures[f"recall_{name}"],
            "low": arm.measures[f"recall_{name}_low"],
            "high": arm.measures[f"recall_{name}_high"],
        }
        for arm in arms
        for name, label in _SET_ROWS.items()
    ]
    figure = plot_bars(rows, "set", "recall", low="low", high="high", y_label="share of right answers")
    words = [f"{row['run']}, {row['set']}: {row['recall']:.3f}" for row in rows]
    caption = "Who knows whom? Lines are 95 % intervals, people as the unit."
    return Picture("recall", figure, caption, f"Share of right answers. {'; '.join(words)}.")


def curves_picture(arms: Sequence[Arm]) -> Picture:
    """Recall on trained and on other people while the models learn."""
    rows = [
        {"run": f"{arm.name}, {name}", "step": row["step"], "recall": row[f"recall_{name}"]}
        | {end: row.get(f"recall_{name}_{end}") for end in ("low", "high")}
        for arm in arms
        for name in ("trained", "unseen")
        for row in arm.run.evals
        if f"recall_{name}" in row
    ]
    figure = plot_curves(
        rows,
        "step",
        "recall",
        low="low",
        high="high",
        x_label="optimizer steps",
        y_label="share of right answers",
        y_range=(-0.03, 1.03),
    )
    last = {row["run"]: row["recall"] for row in rows}
    words = "; ".join(f"{name} ends at {value:.3f}" for name, value in last.items())
    caption = "How recall grows, asked about fewer people than in the final examination; bands as above."
    return Picture("learning_curves", figure, caption, f"Share of right answers by step: {words}.")


def _sections(
    table: Table, pictures: Sequence[Picture], arms: Sequence[Arm], verdicts: Sequence[Verdict]
) -> list[Section]:
    runs = [arm.run for arm in arms]
    bars, curves = pictures
    results: list[Block] = [table, *_details(arms), bars, verdict_table(verdicts)]
    dialogs = [Dialogs(arm.name, tuple(arm.run.dialogs)) for arm in arms]
    return [
        Section("Results", tuple(results)),
        Section("Dialogs", tuple(dialogs)),
        Section("Learning curves", (curves, *loss_pictures(runs))),
        Section("Speed", speed_blocks(runs)),
        Section("Configs and environments", origin_blocks(runs)),
    ]


def _details(arms: Sequence[Arm]) -> tuple[Block, ...]:
    """All measures of the final examination, folded."""
    finals = [_with_evals(arm) for arm in arms]
    table = measures_table(finals)
    return (Folded("All measures of the final examination", table),) if table else ()


def _with_evals(arm: Arm) -> RunRecord:
    """The run as if the final examination were its last evaluation."""
    return replace(arm.run, evals=[{"step": arm.config.training.n_steps, **arm.measures}])


def _print_summary(table: Table, arms: Sequence[Arm]) -> None:
    """Table and dialogs on standard output."""
    console = Console(soft_wrap=False)
    console.print()
    console.print(table.to_rich())
    for arm in arms:
        for dialog in _chosen(arm):
            _print_dialog(console, arm.name, dialog)


def _chosen(arm: Arm) -> list[SampleDialog]:
    """One dialog about a trained person and one about another, right or wrong as most of their set are."""
    chosen = []
    for name in ("trained", "unseen"):
        of_set = [dialog for dialog in arm.run.dialogs if dialog.title.startswith(SET_NAMES[name])]
        usual = arm.measures[f"recall_{name}"] >= 0.5
        of_set.sort(key=lambda dialog: dialog.is_right != usual)
        chosen += of_set[:1]
    return chosen


def _print_dialog(console: Console, name: str, dialog: SampleDialog) -> None:
    verdict = "right" if dialog.is_right else f"wrong, expected {dialog.expected}"
    console.print(Text(f"{name}, {dialog.title}: {verdict}", style="green" if dialog.is_right else "red"))
    grid = Grid.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")  # what an untrained model writes has few spaces
    for role, content in dialog.messages:
        grid.add_row(Text(f"  {role}", style="dim"), Text(_shorten(content), _ROLE_STYLES.get(role, "")))
    console.print(grid)
    console.print()


def _shorten(content: str) -> str:
    """What a model has said, safe for a terminal and of bounded length."""
    text = printable(content)
    return text if len(text) <= MAX_CHARACTERS_SHOWN else f"{text[:MAX_CHARACTERS_SHOWN]}..."


def _lead(arms: Sequence[Arm]) -> str:
    in_tool, in_weight = arms
    n_in_tool, n_in_weight = (arm.config.data.n_people for arm in arms)
    asked, known = (arm.measures["recall_unseen"] for arm in (in_tool, in_weight))
    return (
        f"Two transformers of one kind. In-tool learned from {n_in_tool:,} people to ask a database; "
        f"in-weight learned the facts of {n_in_weight:,} people by heart. Asked about people never trained "
        f"on, in-tool is right {asked:.1%} of the time, in-weight {known:.1%}."
    )


def _recall(arm: Arm, name: str) -> str:
    key = f"recall_{name}"
    return show_interval(arm.measures[key], arm.measures[f"{key}_low"], arm.measures[f"{key}_high"])


def _valid_calls(arm: Arm) -> str:
    return show_measure(dict(arm.measures), "valid_calls_unseen") if arm.config.data.uses_tool else "-"


def _bits(arm: Arm) -> Any:
    return None if arm.config.data.uses_tool else arm.measures.get("bits_per_parameter")


def _at_least(what: str, recall: float, bound: float) -> Verdict:
    return Verdict(what, f"at least {bound:g}", recall, recall >= bound)


def _at_most(what: str, recall: float, bound: float) -> Verdict:
    return Verdict(what, f"at most {bound:g}", recall, recall <= bound)

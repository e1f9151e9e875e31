"""Dialogs on a terminal: who wrote them, whether they are right, and nothing that steers the terminal."""

from __future__ import annotations

import io

from report_runs import sample_dialog
from rich.console import Console

from nanollama.report.runs import SampleDialog
from nanollama.report.terminal import MAX_CHARACTERS, print_dialog
from nanollama.tokenizer import Message


def shown(dialog: SampleDialog) -> str:
    console = Console(file=io.StringIO(), width=400)
    print_dialog(console, "mine", dialog)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_dialog_is_told_with_its_outcome() -> None:
    text = shown(sample_dialog(is_right=False))
    assert text.startswith("mine, unseen, birth place: wrong, expected Chile\n")
    lines = [line.split(maxsplit=1) for line in text.splitlines()[1:5]]
    assert [role for role, _ in lines] == ["user", "assistant", "database", "assistant"]
    assert lines[1][1].strip() == "Let me look. ``` FIND birth_place FOR Ann Bell ```"
    assert shown(sample_dialog()).startswith("mine, unseen, birth place: right\n")


def test_nothing_else_in_a_file_of_dialogs_steers_the_terminal() -> None:
    for place in range(3):
        title, expected, role = ("\x1b[2J" if number == place else "t" for number in range(3))
        assert "\x1b" not in shown(SampleDialog(title, expected, False, (Message(role, "x"),)))


def test_what_a_model_wrote_is_bounded_and_steers_nothing() -> None:
    said = Message("assistant", "\x1b[31m[bold]" + "x" * 1000)
    text = shown(SampleDialog("t", "x", False, (said,)))
    assert "\x1b" not in text and "[bold]" in text
    assert text.count("x") < MAX_CHARACTERS + 10 and "xxx..." in text

"""Sample dialogs on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nanollama.report.runs import SampleDialog
from nanollama.wording import printable

MAX_CHARACTERS = 240
"""Of a message; what an untrained model writes is long."""
ROLE_STYLES = {"user": "bold", "assistant": ""}
TOOL_STYLE = "cyan"


def print_dialog(console: Console, name: str, dialog: SampleDialog) -> None:
    """Show a dialog under who wrote it and whether it is right, safe for a terminal, of bounded length."""
    verdict = "right" if dialog.is_right else f"wrong, expected {dialog.expected}"
    title = _shorten(f"{name}, {dialog.title}: {verdict}")
    console.print(Text(title, style="green" if dialog.is_right else "red"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")  # what an untrained model writes has few spaces
    for role, content in dialog.messages:
        style = ROLE_STYLES.get(role, TOOL_STYLE)
        grid.add_row(Text(f"  {_shorten(role)}", style="dim"), Text(_shorten(content), style))
    console.print(grid)
    console.print()


def _shorten(content: str) -> str:
    text = printable(content).replace("\n", " ")
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."

"""What is read at once is short: functions of at most 50 lines, files of at most 400."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_FUNCTION_LINES, MAX_FILE_LINES = 50, 400


def test_functions_and_files_are_short() -> None:
    long = []
    for path in sorted(
        path for room in ("src", "apps", "benchmarks") for path in (ROOT / room).rglob("*.py")
    ):
        text = path.read_text(encoding="utf-8")
        if (n_lines := len(text.splitlines())) > MAX_FILE_LINES:
            long.append(f"{path.relative_to(ROOT)}: {n_lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or 0) - node.lineno + 1
                if n_lines > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {n_lines} lines")
    assert not long

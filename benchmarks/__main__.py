"""All benchmarks in turn: ``python -m benchmarks [NAME ...] [--quick]``.

Each module ``benchmarks/<name>_speed.py`` has ``rows(quick) -> list[Row]``. The rows are shown as one table
and merged into ``benchmarks/results.json``; ``--quick`` only shows that everything runs, and writes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.row import Row
from nanollama.monitor.environment import describe_environment
from nanollama.monitor.files import write_atomically
from nanollama.report.tables import Table, show_number

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
SUFFIX = "_speed"


def names() -> list[str]:
    """Names of the benchmarks there are."""
    return sorted(path.stem.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}.py"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run, show, write; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Side-by-side timings.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names())}; default: all")
    parser.add_argument("--quick", action="store_true", help="little work, for tests; writes nothing")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - set(names()):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    found: dict[str, list[Row]] = {}
    for name in arguments.names or names():
        began = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, flush=True)
        found[name] = importlib.import_module(f"benchmarks.{name}{SUFFIX}").rows(arguments.quick)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        if not arguments.quick:  # at once: the next may be interrupted
            merge({name: found[name]})
    Console().print(to_table(found).to_rich())
    if not arguments.quick:
        print(f"wrote {RESULTS}")
    return 0


def to_table(found: dict[str, list[Row]]) -> Table:
    """One line a row; ratios above 1 are in our favour."""
    lines = [
        (
            f"{name}: {row.work}",
            f"{show_number(row.ours)} {row.unit}",
            f"{show_number(row.other)} {row.unit}" if row.other is not None else "-",
            row.compared_with if row.other is not None else "-",
            f"{row.ratio:.2f}" if row.ratio is not None else "-",
        )
        for name, rows in found.items()
        for row in rows
    ]
    columns = ("work", "ours", "other", "compared with", "times better")
    return Table("Timings of one run, side by side.", columns, tuple(lines))


def merge(found: dict[str, list[Row]]) -> None:
    """Replace the results of the benchmarks that ran, with the machine they ran on; keep the others."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    environment = describe_environment(torch.device("cpu"), 1)
    machine = {key: environment[key] for key in ("commit", "versions", "hardware")}
    date = datetime.now(timezone.utc).date().isoformat()
    for name, rows in found.items():
        results[name] = {"date": date, **machine, "rows": [row.to_json() for row in rows]}
    write_atomically(RESULTS, json.dumps(results, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""All benchmarks in turn: ``python -m benchmarks [NAME ...] [--quick]``.

Each module ``benchmarks/<name>_speed.py`` has `pairs(folder, quick)`, what is compared, prepared in a folder
that is removed, and `BUDGET_SECONDS` for all of it. A faster machine takes more turns; once the budget is
spent, the pairs left are written as not measured. Each row goes into ``benchmarks/results.json`` as soon as
it is known, with the speed of the machine at its time. Aims are ratios to what is timed beside it in the same
run.

``--quick`` only shows that everything runs, and writes nothing. The exit code is 1 if a row could not be
measured, unless this machine is not made for it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.machine_speed import gigaflops
from benchmarks.row import Row
from benchmarks.turns import FULL, QUICK, Contestant, Pair, Ring
from nanollama.measures import show_number
from nanollama.monitor.environment import describe_code
from nanollama.monitor.files import write_atomically
from nanollama.report.tables import Table

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
SUFFIX = "_speed"
NOBODY = Contestant("-", lambda: lambda number: 0.0)


def names() -> list[str]:
    """Names of the benchmarks there are."""
    return sorted(path.stem.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}.py"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write, show; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Side-by-side timings.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names())}; default: all")
    parser.add_argument("--quick", action="store_true", help="little work, for tests; writes nothing")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - set(names()):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    commit = describe_commit()
    found: dict[str, list[dict[str, Any]]] = {}
    has_failed = False
    for name in arguments.names or names():
        began, rows = time.monotonic(), found.setdefault(name, [])
        circumstances = describe_moment(commit)
        for row in compare_all(name, arguments.quick):
            has_failed |= isinstance(row.timing, str) and not row.pair.not_here
            rows.append({"benchmark": name, **row.to_json(), **circumstances})
            if not arguments.quick:  # at once: the next may be interrupted
                merge(name, rows)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    rows = [row for part in found.values() for row in part]
    Console().print(to_table(rows).to_rich())
    return int(has_failed)


def compare_all(name: str, quick: bool) -> Iterator[Row]:
    """The rows of a benchmark, one after another."""
    module = importlib.import_module(f"benchmarks.{name}{SUFFIX}")
    end = time.monotonic() + (math.inf if quick else module.BUDGET_SECONDS)
    ring = Ring(end, forked=quick)
    with tempfile.TemporaryDirectory() as folder:
        try:
            pairs: list[Pair] = module.pairs(Path(folder), quick)
        except Exception as error:  # what comes after has nothing to do with it
            traceback.print_exc()
            yield Row(Pair("all", "", NOBODY, NOBODY), f"The preparation failed: {error}")
            return
        try:
            for index, pair in enumerate(pairs):
                print(
                    f"{name}: {pair.setting}: {pair.ours.name} and {pair.other.name}",
                    file=sys.stderr,
                    flush=True,
                )
                now = time.monotonic()
                share = (end - now) / (len(pairs) - index)
                if pair.not_here:
                    yield Row(pair, pair.not_here)
                elif share < 0:
                    yield Row(pair, f"The {module.BUDGET_SECONDS:g} s of this benchmark are over.")
                else:
                    yield Row(pair, ring.compare(pair, QUICK if quick else FULL, now + share))
        finally:
            ring.close()


def describe_commit() -> str:
    """The commit that is measured, and whether files differ from it."""
    code = describe_code()
    return f"{code['commit']}{'-dirty' if code['diff'] else ''}"


def describe_moment(commit: str) -> dict[str, Any]:
    """What a ratio can depend on, measured now."""
    return {
        "gflops_float32": gigaflops(torch.float32),
        "gflops_bfloat16": gigaflops(torch.bfloat16),
        "n_threads": torch.get_num_threads(),
        "commit": commit,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def to_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a row; ratios above 1 are in our favour."""
    columns = ("work", "ours", "other", "compared with", "times as fast (least-most)", "aim")
    lines = []
    for row in rows:
        if reason := row.get("not_measured"):
            speeds: tuple[str, ...] = ("-", "-")
            ratio = f"not measured: {reason}"
        else:
            speeds = tuple(f"{show_number(row[side])} {row['unit']}" for side in ("ours", "other"))
            ratio = f"{row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
        work = f"{row['benchmark']}: {row['setting']}: {row['ours_is']}"
        lines.append((work, *speeds, row["other_is"], ratio, f"{row['aim'] or '-'}"))
    return Table("Timings of one run, side by side.", columns, tuple(lines))


def merge(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Replace the rows of a benchmark by those of this run so far; keep those of the others."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [row for row in results if row["benchmark"] != name]
    kept = sorted([*kept, *rows], key=lambda row: str(row["benchmark"]))
    write_atomically(RESULTS, json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

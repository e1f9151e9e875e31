"""How long it takes to write all data of the memory study: people, biographies, both kinds of dialogs, SQL.

Runs the command users run, in a temporary folder that is removed: ``python -m benchmarks.data_speed [N]``.
Aim: at most 15 s and 1 GiB for all 169,556 people on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.row import Row

SCRIPT = Path(__file__).parents[1] / "apps/memory/scripts/generate_data.sh"
N_PEOPLE = 169_556


def measure(n_people: int = N_PEOPLE) -> dict[str, float]:
    """Seconds, peak resident memory of the largest process in MiB and bytes on disk, for `n_people`."""
    with tempfile.TemporaryDirectory() as root:
        start = time.perf_counter()
        process = subprocess.Popen(["bash", SCRIPT, str(n_people), "--yes", "--root", root])
        _, status, usage = os.wait4(process.pid, 0)  # of this command alone, not of all children so far
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"generate_data.sh has failed with exit code {process.returncode}.")
        n_bytes = sum(path.stat().st_size for path in Path(root).rglob("*") if path.is_file())
    peak_mib = usage.ru_maxrss / 1024  # Linux counts in KiB
    return {"n_people": n_people, "seconds": seconds, "peak_rss_mib": peak_mib, "disk_bytes": n_bytes}


def rows(quick: bool = False) -> list[Row]:
    """For `make bench`."""
    n_people = 1000 if quick else N_PEOPLE
    row = measure(n_people)
    work = f"all data of {n_people:,} people"
    aims = (None, None) if quick else (15.0, 1024.0)
    return [
        Row(f"{work}, time", row["seconds"], "s", aims[0], "aim"),
        Row(f"{work}, peak memory", row["peak_rss_mib"], "MiB", aims[1], "aim"),
    ]


def main() -> None:
    """Measure and print."""
    row = measure(*map(int, sys.argv[1:2]))
    print(
        f"{row['n_people']:,} people: {row['seconds']:.1f} s, peak {row['peak_rss_mib']:.0f} MiB, "
        f"{row['disk_bytes'] / 1e6:.0f} MB on disk"
    )


if __name__ == "__main__":
    main()

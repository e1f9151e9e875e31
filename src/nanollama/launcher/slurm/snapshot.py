"""The code as it was when a job was submitted: a copy of all tracked files, and of code not tracked yet.

A queued job may start days later; it runs this copy, whatever has been edited since.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from nanollama.errors import UserError
from nanollama.monitor.environment import describe_code, untracked_code
from nanollama.studies import find_root
from nanollama.version import SNAPSHOT_CODE, SNAPSHOT_FILE, SNAPSHOT_VERSION, find_version


def check_place() -> None:
    """Refuse to copy a part of the code, or none of it.

    Raises:
        UserError: the working directory is not the root of the checkout.
    """
    if (root := find_root()).resolve() != Path.cwd().resolve():
        raise UserError(f"Jobs take the code of the working directory with them: run this command in {root}.")


def take_snapshot(folder: Path) -> Path:
    """Copy the tracked files below the working directory into a new folder; note version, commit and diff.

    Code that git does not track yet, as of a new study, goes with them. Other files do not: data and runs
    stay where they are, and jobs find them since they are started in the same working directory.

    Returns:
        ``folder/code``; beside it lies the note, ``folder/snapshot.json``.

    Raises:
        UserError: the working directory is not in a git repository.
    """
    code = folder / SNAPSHOT_CODE
    code.mkdir(parents=True)
    for name in [*_tracked_files(), *(untracked_code() or ())]:
        source, target = Path(name), code / name
        if source.is_dir() or not os.path.lexists(source):  # a submodule; a file that was deleted
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    noted = {SNAPSHOT_VERSION: find_version(Path.cwd()), **describe_code()}
    (folder / SNAPSHOT_FILE).write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
    return code


def _tracked_files() -> list[str]:
    try:
        done = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise UserError(
            f"The code to submit cannot be copied: {Path.cwd()} is not in a git repository; run "
            "`git init && git add .` at the root of your code, and this command there."
        ) from None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]

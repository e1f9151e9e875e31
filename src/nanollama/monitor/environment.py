"""What a run was made with: versions, commit, hardware, command."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nanollama
from nanollama.precision import CPUINFO
from nanollama.version import SNAPSHOT_VERSION
from nanollama.waiting import describe_waiting

if TYPE_CHECKING:
    import torch

PACKAGES = ("nanollama", "torch", "numpy", "safetensors", "pydantic")
CODE = ("src", "apps")
"""Folders whose files can change a result, committed or not."""
GIT_TIMEOUT_SECONDS = 10
SNAPSHOT_VARIABLE = "NANOLLAMA_SNAPSHOT"
"""Of the environment: the note of a launcher on the copy of the code that it has made."""
MAX_DIFF_CHARS = 1_000_000


def describe_environment(device: torch.device, world_size: int) -> dict[str, Any]:
    """Everything that is not in the config and can change a result, as plain JSON values.

    The commit and the diff are those of the code: of the repository around the working directory, or of the
    copy of it that a launcher has made.
    """
    import torch

    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
        **_code_of_this_process(),
        "hardware": {
            "platform": platform.platform(),
            "cpu": _cpu_name(),
            "n_cores": os.cpu_count(),
            "n_threads": torch.get_num_threads(),
            "threads_wait": describe_waiting(),
            "device": str(device),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "world_size": world_size,
        },
    }


def describe_code() -> dict[str, Any]:
    """Commit and diff of the repository around the working directory, and its code that git does not track.

    Of untracked files below `CODE` the hashes are told, by name. Null without a repository.
    """
    return {"commit": _git("rev-parse", "HEAD"), "diff": _diff(), "untracked": _untracked()}


def untracked_code() -> list[str] | None:
    """Files of code, from here, that git neither tracks nor ignores; None without a repository."""
    found = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE)
    return None if found is None else [name for name in found.split("\0") if name]


def _untracked() -> dict[str, str] | None:
    names = untracked_code()
    if names is None:
        return None
    files = (Path(name) for name in names)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def _code_of_this_process() -> dict[str, Any]:
    """That of the working directory, or of the copy that a launcher made and noted."""
    note = os.environ.get(SNAPSHOT_VARIABLE)
    if note is None:
        return describe_code()
    code: dict[str, Any] = json.loads(Path(note).read_text(encoding="utf-8"))
    code.pop(SNAPSHOT_VERSION, None)  # the package says it itself
    return code


def version_of(package: str) -> str | None:
    """The version of an installed package, None of any other."""
    try:
        return nanollama.__version__ if package == "nanollama" else metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Output of a git command, None when there is no git, no repository or no commit."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, timeout=GIT_TIMEOUT_SECONDS, check=True, cwd=Path.cwd()
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace").strip("\n")


def _diff() -> str | None:
    diff = _git("diff", "HEAD", "--no-ext-diff")
    if diff is None or len(diff) <= MAX_DIFF_CHARS:
        return diff
    return f"{diff[:MAX_DIFF_CHARS]}\n[cut: the diff has {len(diff)} characters]"


def _cpu_name() -> str | None:
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())

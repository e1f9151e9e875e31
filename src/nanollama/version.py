"""Which version of this code it is: that of the commit in a checkout, that of the package elsewhere."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE, ROOT = "nanollama", Path(__file__).resolve().parents[2]
FALLBACK = "0.1.0"
"""Of a package that was never installed, and so has no version by its tag."""
GIT_TIMEOUT_SECONDS = 10
N_DIGITS = 9
"""Of a commit, at least."""


def find_version() -> str:
    """As setuptools-scm would name it now: an editable install knows the commit of its day alone."""
    found = _of_checkout()
    if found is not None:
        return found
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return FALLBACK


def _of_checkout() -> str | None:
    """The tag of the commit, or the release after the last one, with the number of commits since."""
    if not (ROOT / ".git").exists():
        return None
    said = _git("describe", "--tags", "--long", f"--abbrev={N_DIGITS}", "--match=v[0-9]*")
    if said is None:  # there was no release yet
        n_commits, commit = (
            _git("rev-list", "--count", "HEAD"),
            _git("rev-parse", f"--short={N_DIGITS}", "HEAD"),
        )
        if n_commits is None or commit is None:
            return None
        said = f"v{FALLBACK}-{n_commits}-g{commit}"
    tag, n_since, commit = said.removeprefix("v").rsplit("-", 2)
    if n_since == "0":
        return tag
    release = re.sub(r"\d+$", lambda last: str(int(last[0]) + 1), tag)
    return f"{release}.dev{n_since}+{commit}"


def _git(*arguments: str) -> str | None:
    """Output of a git command on the checkout, None when there is no git, no commit or no such tag."""
    command = ["git", f"--git-dir={ROOT / '.git'}", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=GIT_TIMEOUT_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

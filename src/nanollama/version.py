"""Which version of this code it is: in a checkout that of the commit, elsewhere that of the package.

A copy that a launcher made has that of the code it was made of, which is noted beside it.
"""

from __future__ import annotations

import json
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE, SOURCES = "nanollama", "src"
PLACE = Path(__file__).resolve()
ROOT = PLACE.parents[2] if PLACE.parts[-3:-1] == (SOURCES, PACKAGE) else None
"""Of the checkout or the copy that this package lies in, if it lies as in one."""
FALLBACK = "0.1.0"
"""Of a package that was never installed, and so has no version by its tag."""
SNAPSHOT_FILE, SNAPSHOT_CODE, SNAPSHOT_VERSION = "snapshot.json", "code", "version"
"""The note beside a copy of the code, the folder of the copy, and the key of the version in the note."""
GIT_TIMEOUT_SECONDS = 10
N_DIGITS = 9
"""Of a commit, at least."""


def find_version(root: Path | None = ROOT) -> str:
    """As setuptools-scm would name it now: an editable install knows the commit of its day alone.

    Args:
        root: of a checkout, or of a copy of one.
    """
    found = None if root is None else _of_checkout(root) or _of_copy(root)
    if found is not None:
        return found
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return FALLBACK


def _of_checkout(root: Path) -> str | None:
    """The tag of the commit, or the release after the last one, with the number of commits since."""
    if not (root / ".git").exists():
        return None
    if _git(root, "rev-parse", "--verify", "--quiet", f"HEAD:{SOURCES}/{PACKAGE}/{PLACE.name}") is None:
        return None  # the repository is of something else, and the package was put there
    said = _git(root, "describe", "--tags", "--long", f"--abbrev={N_DIGITS}", "--match=v[0-9]*")
    if said is None:  # there was no release yet
        n_commits = _git(root, "rev-list", "--count", "HEAD")
        commit = _git(root, "rev-parse", f"--short={N_DIGITS}", "HEAD")
        if n_commits is None or commit is None:
            return None
        if _git(root, "rev-parse", "--is-shallow-repository") != "false":  # commits lack, and tags
            return f"0+g{commit}"
        said = f"v{FALLBACK}-{n_commits}-g{commit}"
    tag, n_since, commit = said.removeprefix("v").rsplit("-", 2)
    if n_since == "0":
        return tag
    release = re.sub(r"\d+$", lambda last: str(int(last[0]) + 1), tag)
    return f"{release}.dev{n_since}+{commit}"


def _of_copy(root: Path) -> str | None:
    """What the launcher noted that made this copy of the code, if it is one."""
    if root.name != SNAPSHOT_CODE:
        return None
    try:
        note = json.loads((root.parent / SNAPSHOT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = note.get(SNAPSHOT_VERSION) if isinstance(note, dict) else None
    return found if isinstance(found, str) else None


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command on a checkout, None when there is no git, no commit or no such tag."""
    command = ["git", f"--git-dir={root / '.git'}", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=GIT_TIMEOUT_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

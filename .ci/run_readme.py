"""Run the shell blocks of a Markdown file as one shell session at the root of the repository.

``python .ci/run_readme.py README.md``. Lines that begin with ``git clone`` or ``make demo`` are left out: the
checkout is there, and the demo is run on its own, smaller.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

NOT_RUN = ("git clone ", "make demo")


def shell_lines(text: str) -> list[str]:
    """Lines of all ``sh`` blocks that are to be run."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith(NOT_RUN)]


def main() -> int:
    """Run the blocks, showing each command; the exit code is that of the first command that fails."""
    lines = shell_lines(Path(sys.argv[1]).read_text(encoding="utf-8"))
    assert lines, f"{sys.argv[1]} has no shell blocks"
    # Shows each command; unlike `set -x`, not also those of files that are sourced.
    script = "set -e\ntrap 'echo \"\\$ $BASH_COMMAND\"' DEBUG\n" + "\n".join(lines)
    return subprocess.run(["bash", "-c", script], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

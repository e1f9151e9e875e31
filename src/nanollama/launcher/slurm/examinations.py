"""Checkpoints examined while their run goes on training, each by a Slurm job of its own.

With ``slurm.evaluate`` a submission holds two files more: ``evaluate.yaml``, the config of the study's verb
``eval`` as it was, and ``evaluate.sh``, the script of a job that examines the checkpoint it is given. The job
that trains submits it for every new checkpoint; ``examinations.json`` in the run folder says which it has.
Loaded by jobs while they start, so it loads nothing that takes time.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from nanollama.launcher.attempts import CHECKPOINTS, STEP_NAME
from nanollama.monitor.checkpoint import MANIFEST  # written last, so a checkpoint that has it is complete
from nanollama.monitor.files import read_json, write_atomically
from nanollama.monitor.successor import EXAMINATIONS, is_ordered_anew

EVALUATION, SCRIPT = "evaluate.yaml", "evaluate.sh"
TIMEOUT_SECONDS = 60


class Examinations:
    """The examinations of one run.

    Args:
        submission: its folder; without ``evaluate.sh`` nothing is examined.
        run: its folder.
    """

    def __init__(self, submission: Path, run: Path) -> None:
        self._script = submission / SCRIPT
        self._run = run
        self._wanted = self._script.exists()
        self._jobs: dict[str, str] | None = None

    def submit_new(self) -> None:
        """Submit a job for each complete checkpoint that has none."""
        if not self._wanted or is_ordered_anew(self._run):  # what is there is of the run that is replaced
            return
        if self._jobs is None:
            self._jobs = read_json(self._run / EXAMINATIONS)
        for path in sorted((self._run / CHECKPOINTS).glob(f"step_*/{MANIFEST}")):
            name = path.parent.name
            if STEP_NAME.fullmatch(name) and name not in self._jobs:
                self._jobs[name] = ""
                try:
                    self._jobs[name] = self._submit(path.parent)
                    text = json.dumps(self._jobs, indent=2) + "\n"
                    write_atomically(self._run / EXAMINATIONS, text, durable=False)
                except (OSError, subprocess.SubprocessError) as error:  # training goes on
                    print(f"{path.parent} is not examined: {error}", flush=True)

    def _submit(self, checkpoint: Path) -> str:
        """The number of the job; nothing if Slurm refuses it, which is said."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name == "SLURM_CONF" or not name.startswith("SLURM_")
        }
        command = ["sbatch", "--parsable", str(self._script), str(checkpoint)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
        if done.returncode:
            print(f"{checkpoint} is not examined: {done.stderr.strip()}", flush=True)
        return done.stdout.strip()

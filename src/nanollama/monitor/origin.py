"""Where a run began: which weights of which other run it has loaded, and whether they are still those there.

A run that loads weights notes it in ``environment.json``, under ``loaded``. When the other run has been
trained anew since, with other weights, what was made of the old ones belongs to nothing any more. Loads
nothing that takes time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nanollama.errors import UserError
from nanollama.monitor.checkpoint import FOLDER, MANIFEST, MODEL, NAME, Checkpointer
from nanollama.monitor.files import read_json, write_atomically
from nanollama.monitor.successor import ENVIRONMENT, RESULT

LOADED = "loaded"


@dataclass(frozen=True)
class Origin:
    """What a run has loaded.

    Args:
        run: folder of the other run, or of its checkpoint, as the config names it.
        at_step: optimizer steps that the run itself had done.
        step: optimizer steps that the weights were trained for.
        config_hash: of the other run.
        weights_sha256: of the file with the weights.
    """

    run: str
    at_step: int
    step: int
    config_hash: str
    weights_sha256: str

    def lost(self) -> str | None:
        """How the other run shows that its weights are others now; None when nothing there says so."""
        run = Path(self.run)
        if NAME.fullmatch(run.name):
            return self._differs_from(run)
        result = read_json(run / RESULT)
        step, config_hash = result.get("step"), result.get("config_hash")
        if result.get("status") == "finished" and step != self.step:
            return f"it had done {self.step} steps then, and {step} now"
        checkpoint = Checkpointer(run / FOLDER).path(self.step)
        if checkpoint.is_dir():
            return self._differs_from(checkpoint)
        return None if config_hash in (None, self.config_hash) else "it has another config now"

    def _differs_from(self, checkpoint: Path) -> str | None:
        """The same of a checkpoint of that step, by its manifest; one without is passed over."""
        try:
            sha256 = read_json(checkpoint / MANIFEST)["files"][MODEL]["sha256"]
        except (KeyError, TypeError):
            return None
        return None if sha256 == self.weights_sha256 else "it was trained anew since"


def origin_of(run: Path, at_step: int, checkpoint: Path) -> Origin:
    """What is to be noted of an intact checkpoint that is loaded."""
    manifest = read_json(checkpoint / MANIFEST)
    sha256 = manifest["files"][MODEL]["sha256"]
    return Origin(str(run), at_step, manifest["step"], manifest["config_hash"], sha256)


def record_origin(folder: Path, where: str, origin: Origin) -> None:
    """Note in a run folder what is loaded; ``where`` is the key of the config that says so."""
    path = folder / ENVIRONMENT
    environment = read_json(path)
    loaded = {**environment.get(LOADED, {}), where: asdict(origin)}
    write_atomically(path, json.dumps({**environment, LOADED: loaded}, indent=2) + "\n")


def read_origins(folder: Path) -> Iterator[Origin]:
    """What a run has loaded, none for one from before this was noted."""
    loaded = read_json(folder / ENVIRONMENT).get(LOADED)
    for entry in loaded.values() if isinstance(loaded, Mapping) else ():
        try:
            yield Origin(**entry)
        except TypeError:  # written by another version
            continue


def lost_origins(folder: Path, done: float) -> Iterator[str]:
    """What a run that has done so many steps has loaded that is there no more, each in a few words."""
    for origin in read_origins(folder):
        if origin.at_step < done and (why := origin.lost()) is not None:
            yield f"it began from {origin.run}, but {why}"


def check_origins(folder: Path, done: int) -> None:
    """Refuse to go on with a run whose weights were made of what is there no more.

    Raises:
        UserError: naming what it began from.
    """
    for what in lost_origins(folder, done):
        raise UserError(
            f"The run {folder} is stale, {what}: start it anew with overwrite=true, or restore that run."
        )

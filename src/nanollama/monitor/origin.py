"""Where a run began: which weights of which other run it has loaded, and whether they are still those there.

A run that loads weights notes it in ``environment.json``, under ``loaded``, with what the other run has noted
itself: what went into weights is known when the runs that they came from are gone, or are others. When the
other run has been trained anew since, with other weights, what was made of the old ones belongs to nothing
any more. Loads nothing that takes time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanollama.config.source import read_source
from nanollama.errors import UserError
from nanollama.monitor.checkpoint import FOLDER, MANIFEST, MODEL, NAME, Checkpointer
from nanollama.monitor.files import read_json, write_atomically
from nanollama.monitor.successor import CONFIG, ENVIRONMENT, RESULT

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
        config: of the other run; None where there was none, and in notes from before it was noted.
        loaded: what the other run has noted that it has loaded itself, likewise.
    """

    run: str
    at_step: int
    step: int
    config_hash: str
    weights_sha256: str
    config: dict[str, Any] | None = None
    loaded: dict[str, Any] | None = None

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
    manifest, folder = read_json(checkpoint / MANIFEST), checkpoint.parent.parent
    sha256 = manifest["files"][MODEL]["sha256"]
    config = read_source([str(folder / CONFIG)]).plain() if (folder / CONFIG).is_file() else None
    loaded = {where: asdict(origin) for where, origin in read_origins(folder).items()}
    return Origin(str(run), at_step, manifest["step"], manifest["config_hash"], sha256, config, loaded)


def record_origin(folder: Path, where: str, origin: Origin) -> None:
    """Note in a run folder what is loaded; ``where`` is the key of the config that says so."""
    path = folder / ENVIRONMENT
    environment = read_json(path)
    loaded = {**environment.get(LOADED, {}), where: asdict(origin)}
    write_atomically(path, json.dumps({**environment, LOADED: loaded}, indent=2) + "\n")


def read_origins(folder: Path) -> dict[str, Origin]:
    """What a run has loaded, by the key of its config; nothing for one from before this was noted."""
    return parse_origins(read_json(folder / ENVIRONMENT).get(LOADED))


def parse_origins(loaded: Any) -> dict[str, Origin]:
    """The notes of a run; those that another version has written are passed over."""
    origins: dict[str, Origin] = {}
    for where, entry in loaded.items() if isinstance(loaded, Mapping) else ():
        with suppress(TypeError):
            origins[where] = Origin(**entry)
    return origins


def lost_origins(folder: Path, done: float) -> Iterator[str]:
    """What a run that has done so many steps has loaded that is there no more, each in a few words."""
    for origin in read_origins(folder).values():
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

"""What tells a pretrained model from another of the same name, and which run has made it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nanollama.config.source import read_source
from nanollama.exchange.export import RUN_FILE
from nanollama.model.hugging_face import stored_shape
from nanollama.monitor.checkpoint import FOLDER, Checkpointer, find_checkpoint, fingerprint
from nanollama.monitor.files import read_json
from nanollama.monitor.origin import Origin, origin_of, record_origin
from nanollama.monitor.successor import CONFIG, ENVIRONMENT, MODEL, RESULT

WEIGHTS = (".safetensors", ".bin")
PATH_KEY = "model.path"
"""The key of a config, and of what its run notes, that names a pretrained model."""


def stored_hash(path: str) -> str:
    """A hash of the files of a folder, or the commit of a model on the hub.

    Raises:
        UserError: there is no such model.
    """
    shape = stored_shape(path)
    if not Path(path).is_dir():
        return str(getattr(shape, "_commit_hash", None))
    digest = hashlib.sha256()
    for file in sorted(Path(path).iterdir()):
        if file.name == "config.json" or file.suffix in WEIGHTS:
            digest.update(f"{file.name} {fingerprint(file)['sha256']}\n".encode())
    return digest.hexdigest()[:16]


def config_file(path: str) -> Path | None:
    """Where the config of the run lies that has made the model of a folder, if one of ours has."""
    folder = Path(path)
    if (folder / RUN_FILE).is_file():
        return folder / RUN_FILE
    around = folder.parent / CONFIG
    return around if folder.name == MODEL and around.is_file() else None


def note_origin(folder: Path, path: str) -> None:
    """Note in the folder of a run which run has made the model that it starts from, if one has.

    When a pretraining run is trained anew, the run is known to be stale; of a model that was exported, the
    config that lies beside it is noted. A run that goes on has noted it before, and who only looks at what
    would be read has no run.

    Args:
        folder: of the run.
        path: ``model.path`` of its config.
    """
    if not (folder / ENVIRONMENT).exists() or Checkpointer(folder / FOLDER).steps():
        return
    file = config_file(path)
    if file is None:
        return
    if file.name == RUN_FILE:
        made_by = read_source([str(file)]).plain()
        record_origin(folder, PATH_KEY, Origin(path, 0, 0, "", stored_hash(path), made_by))
    elif read_json(file.parent / RESULT).get("status") == "finished":
        record_origin(folder, PATH_KEY, origin_of(file.parent, 0, find_checkpoint(file.parent)))

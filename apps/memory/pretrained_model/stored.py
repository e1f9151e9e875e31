"""What tells a pretrained model from another of the same name, and which run has made it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nanollama.model.hugging_face import stored_shape
from nanollama.monitor.checkpoint import FOLDER, Checkpointer, find_checkpoint, fingerprint
from nanollama.monitor.files import read_json
from nanollama.monitor.origin import origin_of, record_origin
from nanollama.monitor.successor import ENVIRONMENT, MODEL, RESULT

WEIGHTS = (".safetensors", ".bin")


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


def note_origin(folder: Path, path: str) -> None:
    """Note in the folder of a run which finished run has made the model that it starts from, if one has.

    When that one is trained anew, the run is known to be stale. A run that goes on has noted it before, and
    who only looks at what would be read has no run.

    Args:
        folder: of the run.
        path: ``model.path`` of its config.
    """
    base = Path(path).parent
    made = Path(path).name == MODEL and read_json(base / RESULT).get("status") == "finished"
    is_new = (folder / ENVIRONMENT).exists() and not Checkpointer(folder / FOLDER).steps()
    if made and is_new:
        record_origin(folder, "model.path", origin_of(base, 0, find_checkpoint(base)))

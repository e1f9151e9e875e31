"""What tells a pretrained model from another of the same name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nanollama.model.hugging_face import stored_shape
from nanollama.monitor.checkpoint import fingerprint

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

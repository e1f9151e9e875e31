"""The keys of a ``config.json``, asked one by one: what cannot be had is refused by its name."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nanollama.errors import UserError
from nanollama.wording import show

CONFIG_FILE = "config.json"
MAX_BYTES = 1 << 20
T = TypeVar("T", int, float, bool, str)


@dataclass(frozen=True)
class Keys:
    """Keys of a file.

    Args:
        path: of the file, for messages.
        values: what it says.
    """

    path: Path
    values: Mapping[str, Any]

    def get(self, name: str, kind: type[T], default: T | None = None) -> T:
        """A value; the default where there is none, or null.

        Raises:
            UserError: it is of another kind, or missing without a default.
        """
        value = self.values.get(name)
        if value is None:
            if default is None:
                raise UserError(f"{self.path} has no {name}: expected the config of a saved model.")
            return default
        if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{self.path}: {name} = {show(value)} is not of the kind {kind.__name__}.")
        found: T = value
        return found

    def expect(self, name: str, *allowed: object, default: object = None) -> Any:
        """A value that the shell can express; missing or null, it is the default.

        Raises:
            UserError: it is none of these.
        """
        value = self.values.get(name)
        value = default if value is None else value
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
            expected = " or ".join(show(one) for one in allowed)
            raise self.refusal(name, value, expected)
        return value

    def refusal(self, name: str, value: object, expected: str) -> UserError:
        """The sentence about a key that the shell cannot express."""
        return UserError(
            f"{self.path}: {name} = {show(value)} cannot be imported, for our models have no such thing; "
            f"expected {expected}. `model.implementation: hugging_face` trains the model as it is."
        )


def read_keys(folder: Path) -> Keys:
    """The keys of a folder's ``config.json``.

    Raises:
        UserError: there is none, or it is not one JSON object.
    """
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: expected one that holds a saved model.")
    if not path.is_file():
        raise UserError(f"The folder {folder} holds no {CONFIG_FILE}: expected that of a saved model.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is larger than 1 MiB")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {show(str(error))}; expected a JSON object.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object; expected the config of a saved model.")
    return Keys(path, values)

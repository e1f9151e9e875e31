"""A run is a config: one frozen, validated object that says everything about it.

``load_config`` reads ``[config=]PATH [key.sub=value ...]`` and reports every problem of a config at once,
with file and line; ``dump_config`` writes YAML that ``load_config`` reads back to an equal config. Building a
config has no effect on the world.

Configs of a study derive from ``Config``; sections are nested configs. Sections of several kinds are told
apart by ``implementation: Literal["name"]`` and joined by
``Annotated[A | B, Field(discriminator="implementation")]``. Every key carries ``Field(description=...)``;
keys without a default are required. Derived values are properties. Lists are tuples, so that a config cannot
change.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from nanollama.config.arguments import noted
from nanollama.config.messages import explain
from nanollama.config.paths import ConfigPath
from nanollama.config.source import Node, read_source
from nanollama.errors import ConfigError
from nanollama.wording import show

N_HASH_DIGITS = 12
RUNS = Path("runs")
"""Where runs go whose config names no folder."""


class Config(BaseModel):
    """Base of every config and every section of one."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )


RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""A name that any file system takes."""


class RunConfig(Config):
    """What every run has: a study, a name, a folder. Studies narrow ``study`` to their own name."""

    study: str = Field(description="Which study this config belongs to.")
    name: RunName = Field(description="Name of the run.")
    run_dir: ConfigPath | None = Field(default=None, description="Folder of the run; default runs/<name>.")
    overwrite: bool = Field(default=False, description="Start anew, removing what an earlier run wrote.")

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.run_dir or RUNS / self.name


C = TypeVar("C", bound=Config)


def load_config(config_class: type[C], argv: Sequence[str]) -> C:
    """The config of ``[config=]PATH [key.sub=value ...]``.

    Types are strict: a text is not a number, 1 is not true.

    Raises:
        ConfigError: one line a problem, all problems of the config at once.
    """
    problems: list[str] = []
    with noted(problems):
        config = build_config(config_class, read_source(argv, problems))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys("\n".join(problems).splitlines())))
    return config


def build_config(config_class: type[C], source: Node) -> C:
    """The config that a tree of values says; see `load_config`."""
    try:
        # JSON mode: strict about numbers and texts, yet lists become tuples and texts paths.
        return config_class.model_validate_json(source.as_json, strict=True)
    except ValidationError as error:
        raise ConfigError(explain(error, config_class, source)) from None


def dump_config(config: Config) -> str:
    """The resolved config as YAML, which ``load_config`` reads back to an equal config."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.default_flow_style = False
    yaml.width = 4096
    stream = io.StringIO()
    yaml.dump(_plain(config), stream)
    return stream.getvalue()


def config_hash(config: Config) -> str:
    """The first 12 hex digits of the SHA-256 of the config's canonical JSON."""
    return _hash(_plain(config))


def file_hash(path: Path) -> str:
    """The `config_hash` of a config when `dump_config` wrote it, whatever keys there have come since.

    Raises:
        ConfigError: it is no YAML.
    """
    return _hash(read_source([str(path)]).plain())


def _hash(plain: Any) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:N_HASH_DIGITS]


def first_difference(there: Config, here: Config) -> str | None:
    """The first key on which two configs differ, as ``model.d_model is 32 there and 64 here``; or None."""
    return next(_differences(_plain(there), _plain(here), ""), None)


class _Representer(SafeRepresenter):
    """Quotes unprintable texts, some of whose characters YAML would otherwise write as line breaks."""

    def represent_text(self, text: str) -> ScalarNode:
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _Representer.represent_text)


def _plain(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json", round_trip=True)


def _differences(there: Any, here: Any, key: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys([*there, *here]):
            inner = f"{key}.{name}" if key else name
            if name in there and name in here:
                yield from _differences(there[name], here[name], inner)
            else:
                side, value = ("there", there[name]) if name in there else ("here", here[name])
                yield f"{inner} is {show(value)} {side} and absent {'here' if name in there else 'there'}"
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, pair in enumerate(zip(there, here, strict=True)):
            yield from _differences(*pair, f"{key}.{index}")
    elif there != here or type(there) is not type(here):
        yield f"{key} is {show(there)} there and {show(here)} here"

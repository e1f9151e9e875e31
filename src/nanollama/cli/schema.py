"""JSON schemas of config files, for editors: they complete keys, show what these mean, and mark wrong ones.

The schemas of a study lie in ``apps/<study>/config/.schema/``, one a kind of config, and the first line of a
config names its own: ``# yaml-language-server: $schema=.schema/train.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import TaggedUnionSchema, WithDefaultSchema

from nanollama.config import Config
from nanollama.config.source import BASE_KEY, SCALE_KEY, SCALES_KEY
from nanollama.errors import UserError
from nanollama.launcher.grid.expand import SECTION, GridConfig
from nanollama.launcher.plan import LaunchKeys
from nanollama.monitor.files import write_atomically
from nanollama.studies import Study
from nanollama.wording import suggest

FOLDER = Path("config") / ".schema"
"""Inside the folder of a study."""


class _Launching(LaunchKeys):
    """What any config may say beside its own keys."""

    grid: GridConfig | None = Field(default=None, description="What varies between the runs of a grid.")


class _OfParts(GenerateJsonSchema):
    """Schemas of sections that may be merged with those of a base: no key of theirs is required."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Whether a section is complete is told when it is read."""
        return False

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A title would only repeat the name of the key."""
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """The default of a section is that of its keys."""
        described = super().default_schema(schema)
        if isinstance(described.get("default"), dict):
            del described["default"]
        return described

    def tagged_union_schema(self, schema: TaggedUnionSchema) -> JsonSchemaValue:
        """Without its `implementation`, a part may be one of several kinds."""
        return {"anyOf": super().tagged_union_schema(schema)["oneOf"]}


def json_schema(config_class: type[Config]) -> JsonSchemaValue:
    """The schema of the files that hold a kind of config, alone or as a grid.

    The keys at the top that the config requires are required of a file that names neither a base nor a grid,
    where they may stand as well.
    """
    models: list[tuple[type[Config], Literal["validation"]]]
    models = [(config_class, "validation"), (_Launching, "validation")]
    names, schemas = models_json_schema(models, schema_generator=_OfParts)
    sections = schemas["$defs"]
    own, launching = (sections.pop(names[model]["$ref"].removeprefix("#/$defs/")) for model in models)
    properties = launching["properties"] | own["properties"]
    about_file = {
        BASE_KEY: {"type": "string", "description": "Config file this one builds on, relative to this file."},
        SCALE_KEY: {"type": "string", "description": "Size of the experiment: small, or one of scales."},
        SCALES_KEY: {
            "type": "object",
            "description": "What other sizes change, by their names.",
            "additionalProperties": {
                "type": "object",
                "properties": {name: {"$ref": f"#/properties/{name}"} for name in properties},
                "additionalProperties": False,
            },
        },
    }
    required = [name for name, field in config_class.model_fields.items() if field.is_required()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": config_class.__name__,
        "description": own.get("description", ""),
        "type": "object",
        "properties": about_file | properties,
        "additionalProperties": False,
        "anyOf": [{"required": keys} for keys in ([BASE_KEY], [SECTION], required)],
        "$defs": sections,
    }


def schema_text(study: Study, kind: str) -> str:
    """The schema of one of the study's kinds of config, as its file holds it.

    Raises:
        UserError: the study has no such kind.
    """
    if kind not in study.configs:
        hint = suggest(kind, study.configs) or "."
        known = ", ".join(study.configs)
        raise UserError(f"The study '{study.name}' has no config '{kind}'{hint} (known: {known})")
    return json.dumps(json_schema(study.configs[kind]), indent=1, ensure_ascii=False) + "\n"


def write_schemas(study: Study, folder: Path) -> list[Path]:
    """Write the schemas of all kinds of config of a study into its folder; where they are."""
    paths = [folder / FOLDER / f"{kind}.json" for kind in study.configs]
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for kind, path in zip(study.configs, paths, strict=True):
        write_atomically(path, schema_text(study, kind))
    return paths

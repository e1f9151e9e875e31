"""The page that an exported folder shows: what the model is, what it learned from, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanollama.config import config_hash, dump_config
from nanollama.monitor.files import read_json
from nanollama.monitor.rows import RowFile
from nanollama.monitor.successor import ENVIRONMENT, EVALS
from nanollama.training.trained import Trained

CARD_FILE = "README.md"

TEXT = """\
---
library_name: transformers
{task}tags:
- nanollama
- {tag}
---

# {name}

A {title} of {n_params:,} parameters, trained by nanollama in its study `{study}`. It is
loaded without code of its own:

```python
{usage}
```
{dialogs}
| what | value |
|---|---|
{facts}

## Data

{data}

## Measures

{measures}

## Config

```yaml
{config}```
"""
USAGE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")"""
USAGE_OF_NUMBERS = """\
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("FOLDER")  # its tokens are numbers: there is no tokenizer"""
DIALOGS = """
Dialogs are laid out by `tokenizer.apply_chat_template`. A text that names a special token, such as `<user>`,
becomes that token; `split_special_tokens=True` keeps it text, as it was in training.
"""


def write_card(
    trained: Trained[Any], folder: Path, title: str, *, has_tokenizer: bool, has_dialogs: bool
) -> None:
    """Write ``README.md``.

    Args:
        trained: what is exported.
        folder: into which.
        title: what kind of model it is.
        has_tokenizer: is one exported with it?
        has_dialogs: does it have a chat template?
    """
    config, environment = trained.config, read_json(trained.folder / ENVIRONMENT)
    facts = {
        "step": trained.step,
        "SHA-256 of the checkpoint's weights": f"`{trained.weights_sha256}`",
        "config hash": f"`{config_hash(config)}`",
        "commit": _commit(environment),
        **{f"version of {name}": version for name, version in environment.get("versions", {}).items()},
    }
    text = TEXT.format(
        task="pipeline_tag: text-generation\n" if has_tokenizer else "",
        tag=title.lower(),
        name=config.name,
        title=title,
        study=config.study,
        n_params=trained.model.n_params(),
        usage=USAGE if has_tokenizer else USAGE_OF_NUMBERS,
        dialogs=DIALOGS if has_dialogs else "",
        facts=_rows(facts),
        data=_table("hash", environment.get("data", {})),
        measures=_table("value", _measures(trained)),
        config=dump_config(config),
    )
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


def _commit(environment: Mapping[str, Any]) -> str:
    commit = environment.get("commit")
    changes = ", with changes that are not in it" if environment.get("diff") else ""
    return f"`{commit}`{changes}" if commit else "not recorded"


def _measures(trained: Trained[Any]) -> dict[str, Any]:
    """The last that were taken up to the checkpoint's step, which is the first of them."""
    rows = [row for row in RowFile(trained.folder / EVALS).read() if row["step"] <= trained.step]
    return rows[-1] if rows else {}


def _table(value: str, entries: Mapping[str, Any]) -> str:
    return f"| name | {value} |\n|---|---|\n{_rows(entries)}" if entries else "None is recorded."


def _rows(entries: Mapping[str, Any]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in entries.items())

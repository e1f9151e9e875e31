"""From a config to the study it belongs to: folders ``apps/<study>/`` of the working directory.

A study is a package with ``settings.py``, whose ``CONFIGS`` maps the name of each of its kinds of config to
its class, and one module a verb (``train``, ``eval``, ``show``, ``chat``) with ``main(argv) -> int``. The
library imports none of them by name: the required key ``study`` of a config says which study is meant.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from nanollama.errors import UserError
from nanollama.wording import show, suggest

if TYPE_CHECKING:
    from nanollama.config import Config

APPS = "apps"
STUDY_KEY = "study"
RUN_CONFIG = "config.yaml"
VERBS = ("train", "eval", "show", "chat", "attention")


def run_verb(verb: str, argv: Sequence[str]) -> int:
    """Call ``main(argv)`` of a verb of the study that the config in ``argv`` belongs to; its exit code.

    Raises:
        UserError: the config cannot be read or names no study, or the study lacks the verb.
    """
    return _call(study_of(argv), verb, argv)


def run_verb_of(verb: str, run: str, argv: Sequence[str]) -> int:
    """Call ``main([run, ...])`` of a verb of a run's study; its exit code.

    Args:
        verb: ``chat`` or ``attention``.
        run: the folder of the run, or of one of its checkpoints.
        argv: further arguments of the verb.

    Raises:
        UserError: the folder is not a run, or its study lacks the verb.
    """
    folder = Path(run)
    found = [path / RUN_CONFIG for path in (folder, folder.parent.parent) if (path / RUN_CONFIG).is_file()]
    if not found or not folder.is_dir():
        problem = f"is not a run folder: it holds no {RUN_CONFIG}" if folder.is_dir() else "no such folder"
        raise UserError(f"{run}: {problem}; expected the folder of a run, such as runs/debug.")
    return _call(study_of([str(found[0])]), verb, [run, *argv])


def config_classes(study: str) -> Mapping[str, type[Config]]:
    """The kinds of config of a study, by name.

    Raises:
        UserError: there is no such study here.
    """
    module = _import(study, "settings")
    classes: Mapping[str, type[Config]] = module.CONFIGS
    return classes


def study_of(argv: Sequence[str]) -> str:
    """The key ``study`` of a config, which a base file or an argument may set.

    Raises:
        UserError: the config cannot be read or does not name a study of this checkout.
    """
    from nanollama.config.source import read_source

    source = read_source([item for item in argv if item not in ("--dry-run", "--help", "-h")])
    known = list_studies()
    where, name = source.place_of((STUDY_KEY,)).of(STUDY_KEY), source.plain().get(STUDY_KEY)
    expected = f"expected one of {', '.join(map(repr, known))}"
    if name is None:
        raise UserError(f"{where}: required key is missing; {expected}.")
    if name not in known:
        hint = suggest(str(name), known) or "."
        raise UserError(f"{where}: {expected}, got {show(name)}{hint}")
    return str(name)


def list_studies() -> list[str]:
    """Names of the studies in the working directory.

    Raises:
        UserError: there are none, so this is not the root of a checkout.
    """
    names = sorted(path.parent.name for path in Path(APPS).glob("*/settings.py"))
    if not names:
        raise UserError(
            f"No studies here: {Path.cwd()} has no {APPS}/<study>/settings.py; "
            "run this command at the root of the repository."
        )
    return names


def _call(study: str, verb: str, argv: Sequence[str]) -> int:
    code = _import(study, verb).main(list(argv))
    assert isinstance(code, int)
    return code


def _import(study: str, name: str) -> ModuleType:
    known = list_studies()
    if study not in known:
        raise UserError(f"Unknown study '{study}'{suggest(study, known) or '.'} (known: {', '.join(known)})")
    root = str(Path.cwd())
    if root not in sys.path:  # a console script, unlike `python -m`, does not look in the working directory
        sys.path.insert(0, root)
    module = f"{APPS}.{study}.{name}"
    if importlib.util.find_spec(module) is None:
        verbs = [verb for verb in VERBS if Path(APPS, study, f"{verb}.py").is_file()]
        raise UserError(f"The study '{study}' has no '{name}'; it has {', '.join(verbs) or 'no verbs'}.")
    return importlib.import_module(module)

"""Studies: what the library asks of a folder ``apps/<name>/`` of a checkout, and how it is found.

A study is a package. Its ``settings.py`` holds ``STUDY``, a `Study`, which names its kinds of config and is
cheap to import. Each verb (``train``, ``eval``, ...) is a module with ``main(argv) -> int``, which is also
``python -m apps.<name>.<verb>``. ``grid_sections.py``, if there is one, adds to the page of every grid, see
`nanollama.launcher.grid.outcome`. The library imports none of them by name: the required key ``study`` of a
config says which study is meant.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from nanollama.errors import UserError
from nanollama.wording import expect_run, show, suggest

if TYPE_CHECKING:
    from nanollama.config import Config

APPS = "apps"
STUDY_KEY = "study"
RUN_CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
SETTINGS = "settings"


@dataclass(frozen=True)
class Study:
    """What a study says of itself, as ``STUDY`` in ``apps/<name>/settings.py``.

    Args:
        name: of the study and of its folder.
        configs: its kinds of config, by the verb that takes them. That of ``train`` is a
            `nanollama.training.run_config.TrainingRunConfig`.
        commands: verbs without a kind of config of their own, such as ``show`` or ``chat``.
        pages: verbs that draw a page of one run, for ``nanollama report PAGE RUN``.
        measures: names of those that runs and settings of a grid are compared by; by default those with
            intervals.
        measured: patterns of all names that the evaluations of a run of ``train`` may have, so that claims
            about others are refused before anything runs. Nothing: they are not known beforehand.
        tokenizer: where the function is, ``package.module:function``, that gives the tokenizer of a run's
            config: a `nanollama.tokenizer.ByteTokenizer`, a `tokenizers.Tokenizer`, or that of a pretrained
            model. Nothing: tokens are numbers.
        exhibits: where the function is, likewise, that says what ``nanollama report attention`` shows of a
            run, by its config: a `nanollama.report.attention.exhibits.Exhibits`. Nothing: the next batch.
    """

    name: str
    configs: Mapping[str, type[Config]]
    commands: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    tokenizer: str = ""
    exhibits: str = ""

    @property
    def verbs(self) -> tuple[str, ...]:
        """What it can be asked to do."""
        return (*self.configs, *self.commands, *self.pages)

    @property
    def folder(self) -> Path:
        """Its folder."""
        return find_root() / APPS / self.name

    def module(self, verb: str) -> ModuleType:
        """The module of a verb.

        Raises:
            UserError: the study has none of this name.
        """
        name = f"{APPS}.{self.name}.{verb}"
        if verb not in self.verbs or importlib.util.find_spec(name) is None:
            others = ", ".join(other for other in self.verbs if other != verb)
            raise UserError(f"The study '{self.name}' has no '{verb}'; it has {others}.")
        return importlib.import_module(name)


def find_study(name: str) -> Study:
    """The study of a folder of the checkout.

    Raises:
        UserError: there is no such study here.
    """
    known = list_studies()
    if name not in known:
        raise UserError(f"Unknown study '{name}'{suggest(name, known) or '.'} (known: {', '.join(known)})")
    use_checkout()
    study = importlib.import_module(f"{APPS}.{name}.{SETTINGS}").STUDY
    assert isinstance(study, Study)
    return study


def run_verb(verb: str, argv: Sequence[str]) -> int:
    """Call ``main(argv)`` of a verb of the study that the config in ``argv`` belongs to; its exit code.

    Raises:
        UserError: the config cannot be read or names no study, or the study lacks the verb.
    """
    return _call(study_of(argv), verb, argv)


def run_verb_of(verb: str, run: str, argv: Sequence[str]) -> int:
    """Call ``main([run, ...])`` of a verb of a run's study; its exit code.

    Args:
        verb: such as ``chat``, or one of the study's pages.
        run: the folder of the run, or of one of its checkpoints.
        argv: further arguments of the verb.

    Raises:
        UserError: the folder is not a run, or its study lacks the verb.
    """
    folder = Path(run)
    found = [path / RUN_CONFIG for path in (folder, folder.parent.parent) if (path / RUN_CONFIG).is_file()]
    if not found or not folder.is_dir():
        problem = f"is not a run folder: it holds no {RUN_CONFIG}" if folder.is_dir() else "no such folder"
        problem = "is a file" if folder.is_file() else problem
        raise UserError(f"{run}: {problem}{expect_run(folder)}")
    return _call(study_of([str(found[0])]), verb, [run, *argv])


def is_page(name: str) -> bool:
    """Can a study of the checkout draw such a page of a run?"""
    try:
        return any(name in find_study(study).pages for study in list_studies())
    except UserError:  # reports need no checkout
        return False


def study_of(argv: Sequence[str]) -> str:
    """The key ``study`` of a config, which a base file or an argument may set.

    Raises:
        UserError: the config cannot be read or does not name a study of this checkout.
    """
    from nanollama.config.source import read_source

    # What else is wrong with the arguments is said by the verb, with all that is wrong with the config.
    source = read_source([item for item in argv if item not in ("--dry-run", "--help", "-h")], [])
    use_checkout(Path(source.place.file))
    known = list_studies()
    place, name = source.place_of((STUDY_KEY,)), source.plain().get(STUDY_KEY)
    where = place.of(STUDY_KEY)
    expected = f"expected one of {', '.join(map(repr, known))}"
    if name is None:
        raise UserError(f"{where}: required key is missing; {expected}.")
    if name not in known:
        folder = Path(place.file).parent
        if not place.argument and Path(place.file).name == RUN_CONFIG and (folder / ENVIRONMENT).is_file():
            raise UserError(
                f"The run {folder} is of no study of this checkout, its study is {show(name)}: a script made "
                "it, `import hf`, or another checkout. This needs a study here; `nanollama report RUN`, "
                "`watch` and `runs` take any run."
            )
        hint = suggest(str(name), known) or "."
        raise UserError(f"{where}: {expected}, got {show(name)}{hint}")
    return str(name)


def list_studies() -> list[str]:
    """Names of the studies of the checkout.

    Raises:
        UserError: there are none.
    """
    return _studies_in(find_root())


class NoStudies(UserError):
    """There are no studies around, of anybody."""


def find_root(path: Path | None = None) -> Path:
    """The checkout: the folder whose ``apps/<study>/settings.py`` are the studies.

    It is around the working directory, or around a file that is named, or where Python looks for modules. Its
    code will be run: what lies around the two counts only if it is the user's or the system's.

    Args:
        path: of a file or folder that may lie in a checkout.

    Raises:
        NoStudies: there is none.
        UserError: there is one of somebody else's around.
    """
    named = [] if path is None else [path.resolve(), *path.resolve().parents]
    around = [*Path.cwd().parents, *named]
    ours = [folder for folder in around if _is_ours(folder / APPS)]
    for folder in (Path.cwd(), *ours, *(Path(entry) for entry in sys.path if entry)):
        if _studies_in(folder):
            return folder
    if theirs := next(filter(_studies_in, around), None):
        raise UserError(
            f"The code of {theirs / APPS} is another user's, and is not run from elsewhere: if you trust it, "
            f"run this command in {theirs}."
        )
    raise NoStudies(
        f"No studies here: neither {Path.cwd()} nor a folder of yours around it has "
        f"{APPS}/<study>/{SETTINGS}.py; run this command in the repository, or name a config of it by its "
        "whole path."
    )


def _is_ours(folder: Path) -> bool:
    """Is a folder the user's own, or root's? Where nobody can say whose it is, as on Windows, it is."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return False
    return not hasattr(os, "getuid") or owner in (0, os.getuid())


def use_checkout(path: Path | None = None) -> Path:
    """Let ``import apps`` find the studies of the checkout that `find_root` finds; its folder.

    Neither a console script nor a notebook in another folder looks for modules there, as `python -m` does.

    Args:
        path: of a file or folder that may lie in a checkout.

    Raises:
        UserError: there is none.
    """
    root = find_root(path)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


def _studies_in(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob(f"{APPS}/*/{SETTINGS}.py"))


def _call(study: str, verb: str, argv: Sequence[str]) -> int:
    code = find_study(study).module(verb).main(list(argv))
    assert isinstance(code, int)
    return code

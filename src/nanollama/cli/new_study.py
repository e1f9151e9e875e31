"""``nanollama new study NAME``: a small study that works, to be read in ten minutes and made into another.

The files of ``study_template/`` are written with the name put in: all of them, or none. They are built in a
folder of their own inside the checkout and then moved to their places.
"""

from __future__ import annotations

import keyword
import re
import runpy
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from string import Template

from nanollama.cli.schema import write_schemas
from nanollama.errors import UserError
from nanollama.studies import APPS, SETTINGS, NoStudies, find_root
from nanollama.wording import show

TESTS = Path("tests") / APPS
MAX_NAME_LENGTH = 24
NAME = rf"[a-z][a-z0-9_]{{0,{MAX_NAME_LENGTH - 1}}}"
YAML_WORDS = ("null", "true", "false")
SUFFIX = ".in"
"""Of the templates, so that no tool takes them for the files that they become."""

NEXT = """\
Wrote {study} and {tests}. Next:
  nanollama train {study}/config/debug.yaml      # one run, in seconds
  nanollama eval {study}/config/eval.yaml        # what it has learned
  nanollama grid run {study}/config/grid.yaml    # four runs and a claim
  python -m pytest {tests}
{study}/README.md says what each file is for, and in which order to read them."""


def write_study(name: str) -> str:
    """Write a study into the working directory, also where it is the first one there; what to type next.

    Raises:
        UserError: the name cannot be one or is taken, the place is within a checkout, or not writable.
    """
    check_name(name)
    _check_place()
    study, tests = Path(APPS) / name, TESTS / name
    # pytest tells tests apart by the names of their files alone.
    for path in (study, tests, *Path("tests").rglob(f"test_{name}_study.py")):
        if path.exists() or path.is_symlink():
            raise UserError(f"{path} is there already: choose another name than '{name}'.")
    try:
        with tempfile.TemporaryDirectory(prefix=".new_study_", dir=".") as folder:
            built = Path(folder)
            render(name, built)
            write_schemas(runpy.run_path(str(built / "study" / f"{SETTINGS}.py"))["STUDY"], built / "study")
            for folder_of_all in (TESTS, study.parent):
                folder_of_all.mkdir(parents=True, exist_ok=True)
            (built / "tests").rename(tests)
            try:
                (built / "study").rename(study)  # last: a study is there when its settings are
            except BaseException:
                tests.rename(built / "tests")
                raise
    except OSError as error:
        raise UserError(f"Cannot write the study '{name}' in {Path.cwd()}: {error.strerror}.") from error
    return NEXT.format(study=study, tests=tests)


def _check_place() -> None:
    """Refuse a folder that is not the root of the studies, where there are some already."""
    try:
        root = find_root()
    except NoStudies:
        return  # the first study of a folder, as of one who has installed the package alone
    if root.resolve() != Path.cwd().resolve():
        raise UserError(f"A study is written at the root of the repository: run this command in {root}.")


def check_name(name: str) -> None:
    """Refuse what cannot be a module, or what YAML takes for no text.

    Raises:
        UserError: saying what a name is.
    """
    if not re.fullmatch(NAME, name) or keyword.iskeyword(name) or name in YAML_WORDS:
        raise UserError(
            f"{show(name)} cannot be the name of a study: expected 1 to {MAX_NAME_LENGTH} small letters, "
            "digits and underscores, a letter first, and no word of Python or YAML, such as 'counting'."
        )


def render(name: str, folder: Path) -> None:
    """Write the files of a study into the folders ``study`` and ``tests`` of a folder."""
    with as_file(files("nanollama.cli") / "study_template") as templates:
        for template in sorted(templates.rglob(f"*{SUFFIX}")):
            path = folder / template.relative_to(templates).with_suffix("")
            path = path.with_name(path.name.replace("NAME", name))
            path.parent.mkdir(parents=True, exist_ok=True)
            text = Template(template.read_text(encoding="utf-8")).substitute(name=name)
            path.write_text(text, encoding="utf-8")

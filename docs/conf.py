"""The documentation site, from the Markdown of the whole repository: ``make docs``.

The root of the repository is the source, so that links between documents are the same here as in the files.
Lessons are shown with what they print where `make lessons` has run them as they are, and each says so.
Pages of config keys are written from the classes of the studies, and the book of claims from the runs that
are here, when the build begins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from key_pages import write_if_changed, write_pages  # noqa: E402
from lessons import left_alone, note, run_on, with_note  # noqa: E402

import nanollama  # noqa: E402
from nanollama.launcher.grid.book import write_book  # noqa: E402

project = "nanollama"
version = release = nanollama.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LOG.md",
    "docs/**",
    "apps/*/README.md",
    "tutorial/*",
]
exclude_patterns = [".*", "build", "data", "runs", "venv", "**/__pycache__", "docs/*.py", "docs/templates"]
source_suffix = {".md": "myst-nb"}
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_in_temp = True  # runs and data of lessons go with it
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_cache_path = str(ROOT / "build" / "lessons")
lesson_dates = run_on(ROOT / "tutorial", Path(nb_execution_cache_path))
nb_execution_excludepatterns = left_alone(ROOT / "tutorial", lesson_dates)
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # one document may begin where another's headings end

autodoc_typehints = "description"
autodoc_member_order = "groupwise"

html_theme = "furo"
html_title = "nanollama"
html_copy_source = False
html_show_copyright = False
templates_path = ["templates"]
html_additional_pages = {"index": "redirect.html"}


def setup(app: Sphinx) -> None:
    """Called by Sphinx before it looks for pages."""
    write_pages(ROOT / "docs" / "keys")
    write_if_changed(ROOT / "docs" / "book.md", write_book())
    app.connect("source-read", _say_whether_a_lesson_was_run)


def _say_whether_a_lesson_was_run(app: Sphinx, docname: str, source: list[str]) -> None:
    if Path(app.env.doc2path(docname)).suffix == ".py":
        name = f"{docname.rpartition('/')[2]}.py"
        source[0] = with_note(source[0], note(name, lesson_dates))

"""The documentation site: no warning, no dead link, nothing that is fetched, every key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from nanollama.config.keys import describe_keys
from nanollama.studies import find_study, list_studies

ROOT = Path(__file__).parents[2]
SITE = "TESTS_FIND_SITE_IN"
"""In the environment: the folder that `make docs` has just written, which need not be built again."""
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src"}


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {values["id"]} if values.get("id") else set()  # type: ignore[arg-type]
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.loaded.append(str(values[FETCHED[tag]]))


def dead_links(site: Path) -> list[str]:
    """Links and loaded files within the site that lead nowhere, each with its page."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            known = pages[file].anchors if file in pages and target.fragment else {unquote(target.fragment)}
            if not file.is_file() or unquote(target.fragment) not in known:
                dead.append(f"{path.name}: {link}")
    return dead


def test_the_glossary_says_what_is_in_every_room() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    table = glossary.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)", table, re.MULTILINE))
    rooms = {path.parent.name for path in (ROOT / "src" / "nanollama").glob("*/__init__.py")}
    assert told == rooms


def test_dead_links_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y">1</a><a href="#x">2</a><img src="c.png">')
    (tmp_path / "b.html").write_text('<a href="a.html#z">1</a><a href="https://elsewhere/none">2</a>')
    assert sorted(dead_links(tmp_path)) == ["a.html: b.html#y", "a.html: c.png", "b.html: a.html#z"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if SITE in os.environ:
        return Path(os.environ[SITE])
    pytest.importorskip("furo")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    command += ["-d", str(folder / "read"), "-c", "docs", ".", str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_no_link_of_the_site_is_dead(site: Path) -> None:
    assert not dead_links(site)


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = {item for path in site.rglob("*.html") for item in Page(path).loaded}
    assert loaded
    assert not [item for item in loaded if urlsplit(item).netloc]
    assert not [
        path
        for path in site.rglob("*.css")
        if "url(http" in path.read_text() or "@import" in path.read_text()
    ]


@pytest.mark.slow
def test_the_search_of_the_site_is_a_script_and_knows_its_words(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert index.startswith("Search.setIndex(")  # a script, unlike JSON, is loaded from a disk as well
    assert '"docs/commands"' in index
    assert "preempt" in index


@pytest.mark.slow
def test_the_first_page_leads_to_the_site(site: Path) -> None:
    assert 'url=docs/index.html"' in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_public_name_is_documented(site: Path) -> None:
    from nanollama import api

    page = (site / "docs" / "api.html").read_text(encoding="utf-8")
    assert not [name for name in api.__all__ if f'id="nanollama.api.{name}"' not in page]


@pytest.mark.parametrize("name", list_studies())
def test_every_key_of_a_study_has_its_row(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from key_pages import page_of

    study = find_study(name)
    rows = [line for line in page_of(study).splitlines() if line.startswith("| `")]
    keys = [key for config_class in study.configs.values() for key in describe_keys(config_class)]
    assert sorted(row.split("`")[1] for row in rows) == sorted(key.key for key in keys)


@pytest.mark.parametrize(
    ("text", "escaped"), [("runs/<name>", "runs/\\<name\\>"), ("`a|b*` or *", "`a\\|b*` or \\*")]
)
def test_what_a_key_says_is_text_and_its_code_stays_code(
    text: str, escaped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from key_pages import escape

    assert escape(text) == escaped


@pytest.mark.slow
def test_a_lesson_says_whether_it_was_run(site: Path) -> None:
    for lesson in (ROOT / "tutorial").glob("*.py"):
        page = (site / "tutorial" / f"{lesson.stem}.html").read_text(encoding="utf-8")
        assert ("Shown without what it prints" in page) != ("With what it printed when" in page)


def test_outputs_are_shown_of_lessons_that_were_run_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jupytext = pytest.importorskip("jupytext")
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.delenv("LESSONS", raising=False)
    from lessons import left_alone, note, run_on, with_note

    folder = tmp_path / "tutorial"
    folder.mkdir()
    for name in ("one.py", "two.py"):
        (folder / name).write_text(f"# %% [markdown]\n# # {name}\n#\n# Text.\n\n# %%\nprint({name!r})\n")
    assert run_on(folder, tmp_path / "cache") == {}
    cache = get_cache(tmp_path / "cache")
    for name in ("one.py", "two.py"):
        notebook = jupytext.read(folder / name, fmt="py:percent")
        cache.cache_notebook_bundle(CacheBundleIn(notebook, name), check_validity=False)
    (folder / "two.py").write_text((folder / "two.py").read_text().replace("print", "repr"))

    dates = run_on(folder, tmp_path / "cache")
    assert list(dates) == ["one.py"]
    assert left_alone(folder, dates) == ["tutorial/two.py"]
    assert "With what it printed" in note("one.py", dates) and "Shown without" in note("two.py", dates)
    text = with_note((folder / "two.py").read_text(), note("two.py", dates))
    assert "# # two.py\n#\n# *Shown without" in text
    monkeypatch.setenv("LESSONS", "run")
    assert left_alone(folder, dates) == [] and "With what it printed" in note("two.py", dates)

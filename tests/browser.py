"""A real browser for tests of pages: the system's Chromium, driven by playwright; skipped without them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
WIDE, NARROW = 1280, 420


@contextmanager
def open_browser() -> Iterator[Any]:
    """The browser; its pages are opened by `open_page`."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (on Debian: apt install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(browser: Any, url: str, width: int = WIDE, scheme: str = "light") -> Iterator[Any]:
    """A page that is open; at the end, no script may have complained and nothing else have been asked for."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.add(request.url))
    page.set_default_timeout(30_000)
    page.goto(url)
    try:
        yield page
        assert not complaints
        assert all(one.startswith((url.partition("?")[0], "data:,")) for one in asked), asked
    finally:
        page.close()


def wait_until(page: Any, condition: Callable[[], bool], seconds: float = 30) -> None:
    """Return when a condition holds; our pages' policy forbids playwright to wait for one in the page."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        page.wait_for_timeout(50)

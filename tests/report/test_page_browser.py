"""A page of runs in a real browser: curves are told, singled out and hidden without a script."""

from __future__ import annotations

from typing import Any

import pytest
from report_runs import write_run

from nanollama.report import main
from tests.browser import NARROW, WIDE, open_page, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    runs = [write_run(folder / f"run_{number}", seed=number, recall=0.2 + number / 5) for number in range(3)]
    assert main([*map(str, runs), "--output", str(folder / "page.html")]) == 0
    return (folder / "page.html").as_uri()


def test_a_curve_is_hidden_and_shown_again(url: str, browser: Any) -> None:
    with open_page(browser, url) as page:
        figure = page.locator("figure", has_text="Recall trained by step")
        parts = [figure.locator(f"[id$='-{name}']") for name in ("curve1", "curve1-band")]
        told = figure.locator(".curve-1")
        assert all(part.is_visible() for part in parts)
        figure.locator(".choice-1 input").uncheck()
        assert not any(part.is_visible() for part in parts) and not told.is_visible()
        assert figure.locator("[id$='-curve0']").is_visible()
        other = page.locator("figure", has_text="Training loss by step")
        assert other.locator("[id$='-curve1']").is_visible()
        figure.locator(".choice-1 input").focus()
        page.keyboard.press("Space")
        assert all(part.is_visible() for part in parts)


def test_pointing_at_a_name_singles_its_curve_out(url: str, browser: Any) -> None:
    with open_page(browser, url) as page:
        figure = page.locator("figure", has_text="Training loss by step")

        def opacity(number: int) -> str:
            curve = figure.locator(f"[id$='-curve{number}']")
            return str(curve.evaluate("node => getComputedStyle(node).opacity"))

        assert [opacity(number) for number in range(3)] == ["1", "1", "1"]
        figure.locator(".choice-2").hover()
        wait_until(page, lambda: [opacity(number) for number in range(3)] == ["0.15", "0.15", "1"])


def test_a_value_lies_where_its_point_is_drawn(url: str, browser: Any) -> None:
    with open_page(browser, url) as page:
        figure = page.locator("figure", has_text="Recall trained by step")
        circle = figure.locator("circle", has_text="run_2: 0.6 at 100")
        box = circle.bounding_box()
        centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        marks = [mark.bounding_box() for mark in figure.locator("[id$='-curve2'] use").all()]
        away = [
            abs(mark["x"] + mark["width"] / 2 - centre[0]) + abs(mark["y"] + mark["height"] / 2 - centre[1])
            for mark in marks
        ]
        assert min(away) < 2


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_width(url: str, browser: Any, width: int, scheme: str) -> None:
    with open_page(browser, url, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width

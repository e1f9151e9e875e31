"""The page in a real browser: it moves while runs go, and shows what the rows say to who points at them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watched_runs import append, followed, rows_of, served, write_run

from nanollama.watch.server import WatchServer
from tests.browser import NARROW, WIDE, open_page, wait_until

pytestmark = pytest.mark.slow
EVIL = "<script>document.title='owned'<img src=x onerror=document.title='owned'>"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WatchServer]:
    for d_model in (16, 64):
        for seed in range(3):
            write_run(tmp_path / f"d{d_model}_s{seed}", seed=seed, d_model=d_model)
    with served(followed(tmp_path)) as server:
        yield server


def point_at(page: Any, share: float) -> tuple[float, dict[str, float]]:
    """Hover over a line of the first chart at a share of its width; the step and the values told."""
    chart = page.locator("canvas").first
    box = chart.bounding_box()
    for height in range(10, int(box["height"]) - 30, 8):
        page.mouse.move(box["x"] + 58 + share * (box["width"] - 70), box["y"] + height)
        if page.locator(".tip").first.is_visible():
            break
    rows = page.locator(".tip").first.locator("div").all()
    told = {
        row.inner_text().split(":")[0].removeprefix("■ "): float(row.get_attribute("data-value"))
        for row in rows[1:]
    }
    return float(rows[0].get_attribute("data-value")), told


def end_of(chart: Any, end: str) -> float:
    """Where the horizontal axis of a chart begins (``low``) or ends (``high``)."""
    return float(chart.get_attribute(f"data-{end}"))


def test_hovering_tells_the_rows(server: WatchServer, browser: Any, tmp_path: Path) -> None:
    with open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-lines='6']")
        step, told = point_at(page, 0.5)
        assert told
        for name, loss in told.items():
            assert loss in [
                row["loss"] for row in rows_of(tmp_path / name / "metrics.jsonl") if row["step"] == step
            ]
        page.mouse.move(2, 2)
        assert page.locator(".tip").first.is_hidden()


def test_dragging_zooms_and_a_double_click_goes_back(server: WatchServer, browser: Any) -> None:
    with open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-lines='6']")
        chart = page.locator("canvas").first
        whole = end_of(chart, "low"), end_of(chart, "high")
        box = chart.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=4)
        page.mouse.up()
        wait_until(page, lambda: end_of(chart, "low") > 50)
        low, high = end_of(chart, "low"), end_of(chart, "high")
        assert whole[0] < low < high < whole[1]
        wait_until(page, lambda: end_of(page.locator("canvas").nth(1), "low") == low)
        chart.dblclick(position={"x": 200, "y": 100})
        wait_until(page, lambda: end_of(chart, "high") == whole[1])


def test_the_same_by_keys(server: WatchServer, browser: Any) -> None:
    with open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-lines='6']")
        page.locator("canvas").first.focus()
        page.keyboard.press("ArrowLeft")
        first = page.locator(".tip div").first
        assert first.inner_text() == "step 400"
        page.keyboard.press("ArrowLeft")
        assert first.inner_text() == "step 390"
        name = page.locator(".tip .first").first.inner_text()
        page.keyboard.press("ArrowDown")
        assert page.locator(".tip .first").first.inner_text() != name
        page.keyboard.press("+")
        wait_until(page, lambda: end_of(page.locator("canvas").first, "low") > 100)
        page.keyboard.press("0")
        wait_until(page, lambda: end_of(page.locator("canvas").first, "low") == 10)


def test_lines_are_hidden_grouped_and_smoothed(server: WatchServer, browser: Any) -> None:
    with open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-lines='6']")
        page.locator("#legend button").first.click()
        page.wait_for_selector("canvas[data-lines='5']")
        page.locator("#none").click()
        page.wait_for_selector("canvas[data-lines='0']")
        page.locator("#all").click()
        page.select_option("#group", "model.d_model")
        page.wait_for_selector("canvas[data-lines='2']")
        _, told = point_at(page, 0.5)
        assert set(told) <= {"d_model=16", "d_model=64"}
        assert "3 seeds" in page.locator(".tip").first.inner_text()
        page.select_option("#window", "10")
        page.locator("#logy").check()
        page.locator("#logx").check()
        page.select_option("#x", "elapsed_seconds")
        wait_until(page, lambda: end_of(page.locator("canvas").first, "high") == 20)


def test_without_measures_nothing_is_drawn_and_controls_stay(
    server: WatchServer, browser: Any, tmp_path: Path
) -> None:
    with open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-lines='6']")
        page.select_option("#window", "10")
        page.locator("#measures-box summary").click()
        ticks = page.locator("#measures input:checked")
        while ticks.count():
            ticks.first.uncheck()
        append(tmp_path / "d16_s0" / "metrics.jsonl", {"step": 500, "loss": 0.5, "elapsed_seconds": 25})
        page.wait_for_selector("#runs td:has-text('500')")
        assert (page.locator("canvas").count(), page.locator("#window").input_value()) == (0, "10")
        page.locator("#measures label", has_text="loss").locator("input").check()
        page.wait_for_selector("canvas[data-end='500']")
        assert page.locator("canvas").count() == 1


def test_a_zoom_beyond_0_leaves_a_logarithmic_axis_its_lines(server: WatchServer, browser: Any) -> None:
    with open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-lines='6']")
        chart = page.locator("canvas").first
        chart.focus()
        page.keyboard.press("-")
        wait_until(page, lambda: end_of(chart, "low") < 0)
        high = end_of(chart, "high")
        page.locator("#logx").check()
        wait_until(page, lambda: end_of(chart, "low") == 10)
        assert end_of(chart, "high") == high
        step, told = point_at(page, 0.1)
        assert 10 <= step < 30 and told


def test_a_run_in_progress_moves_without_reload(server: WatchServer, browser: Any, tmp_path: Path) -> None:
    with open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-end='400']")
        append(tmp_path / "d16_s0" / "metrics.jsonl", {"step": 500, "loss": 0.5, "elapsed_seconds": 25})
        page.wait_for_selector("canvas[data-end='500']")
        page.wait_for_selector("#runs td:has-text('500')")
        write_run(tmp_path / "later")
        server.watched._look_at = 0
        page.wait_for_selector("canvas[data-lines='7']")


def test_runs_that_are_too_many_are_told(
    server: WatchServer, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanollama.watch.watched.MAX_RUNS", 6)
    with open_page(browser, server.url) as page:
        page.wait_for_selector("#status:has-text('6 runs')")
        write_run(tmp_path / "later")
        server.watched._look_at = 0
        page.wait_for_selector("#status:has-text('1 that came later')")


def test_the_table_is_sorted_and_filtered_and_opens_a_run(
    server: WatchServer, browser: Any, tmp_path: Path
) -> None:
    (tmp_path / "d64_s1" / "log.txt").write_text(f"step 10\n{EVIL}\n")
    with open_page(browser, server.url) as page:
        page.wait_for_selector("#runs tbody tr")
        page.locator("#runs thead button:has-text('loss')").click()
        shown = [float(cell) for cell in page.locator("#runs tbody td:nth-child(5)").all_inner_texts()]
        assert shown == sorted(shown) and len(shown) == 6
        page.fill("#filter", "d64_s1")
        wait_until(page, lambda: page.locator("#runs tbody tr").count() == 1)
        page.locator("#runs tbody th button").click()
        page.wait_for_selector("#details pre:has-text('owned')")
        assert EVIL in page.locator("#details pre").first.inner_text()


def test_what_a_run_wrote_is_never_run(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / EVIL.replace("/", ""), name=EVIL)
    append(run / "metrics.jsonl", {"step": 401, EVIL: 1.0, "loss": 1.0})
    turn = {"role": EVIL, "content": EVIL}
    dialog = {"title": EVIL, "expected": EVIL, "is_right": False, "messages": [turn]}
    (run / "dialogs.jsonl").write_text(json.dumps(dialog) + "\n")
    (run / "samples.jsonl").write_text(
        json.dumps({"step": 1, "samples": [{"prompt": EVIL, "written": EVIL}]}) + "\n"
    )
    with served(followed(tmp_path)) as server, open_page(browser, server.url) as page:
        page.wait_for_selector("canvas[data-lines='1']")
        page.locator("#runs tbody th button").click()
        page.wait_for_selector("#details .dialog")
        page.locator("#measures-box summary").click()
        page.locator("#measures label", has_text="owned").locator("input").check()
        wait_until(page, lambda: page.locator("canvas").count() == 3)
        assert page.title() == "nanollama watch"
        assert page.locator("img").count() == 0


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_width(server: WatchServer, browser: Any, width: int, scheme: str) -> None:
    with open_page(browser, server.url, width, scheme) as page:
        page.wait_for_selector("canvas[data-lines='6']")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("canvas").first.bounding_box()["height"] > 250


def test_a_server_that_has_gone_is_told(server: WatchServer, browser: Any) -> None:
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("canvas[data-lines='6']")
    page.route("**/api/*", lambda route: route.abort())
    page.wait_for_selector("#status.lost")
    page.unroute("**/api/*")
    page.wait_for_selector("#status:not(.lost)")
    page.close()

"""The explorer in a real browser: tokens tell where they look, changes change answers, nothing else runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanollama.report.attention.command import explore
from nanollama.report.attention.exhibits import Exhibits, Shown
from tests.browser import NARROW, WIDE, open_page
from tests.explorer_runs import EVIL, data_of, write_handmade_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explore(write_handmade_run(tmp_path_factory.mktemp("explorer") / "run"))


def weights(page: Any) -> list[str]:
    """What is told below the tokens."""
    found: list[str] = page.locator(".token .weight").all_inner_texts()
    return found


def answered(page: Any, kind: str) -> list[str]:
    found: list[str] = page.locator(f".token .said{kind}").all_inner_texts()
    return found


def test_a_token_tells_where_it_looks(page_path: Path, browser: Any) -> None:
    """Of P x1 x2 x3 x4 I s1 s2 s3 s4, in the model built by hand."""
    with open_page(browser, page_path.as_uri()) as page:
        page.select_option("#layer", "1")
        page.locator(".token").nth(5).hover()
        assert weights(page) == ["0.00", "1.00", *["0.00"] * 4, *[""] * 4]
        page.locator(".token").nth(7).hover()
        assert weights(page) == [*["0.00"] * 3, "1.00", *["0.00"] * 4, *[""] * 2]
        assert "at 7 looks at " in page.locator("#told").inner_text()
        page.locator(".token").nth(7).focus()
        page.keyboard.press("ArrowRight")
        assert weights(page)[4] == "1.00" and page.locator("[aria-current=true].token").count() == 1
        assert page.evaluate("document.activeElement.dataset.place") == "8"
        page.locator("#map").focus()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowRight")
        assert weights(page)[3] == "1.00"
        box = page.locator("#map").bounding_box()
        page.mouse.move(box["x"] + 48, box["y"] + 48)
        assert weights(page) == ["1.00", *[""] * 9], "the first token sees itself alone"


def test_what_moves_under_a_resting_pointer_is_not_pointed_at(page_path: Path, browser: Any) -> None:
    with open_page(browser, page_path.as_uri()) as page:
        page.evaluate("addEventListener('pointermove', (event) => (window.last = event))")
        page.locator(".token").nth(7).hover()

        def come_under_the_pointer(moved: int) -> str:
            place = f"screenX: last.screenX + {moved}, screenY: last.screenY, bubbles: true"
            token = "document.querySelectorAll('.token')[2]"
            page.evaluate(f"{token}.dispatchEvent(new PointerEvent('pointerover', {{ {place} }}))")
            found: str = page.locator("[aria-current=true].token").get_attribute("data-place")
            return found

        assert [come_under_the_pointer(moved) for moved in (0, 1)] == ["7", "2"]


def test_layers_heads_sequences_and_steps_are_chosen(page_path: Path, browser: Any) -> None:
    with open_page(browser, page_path.as_uri()) as page:
        assert page.locator("#head").input_value() == "0"
        page.locator("#heads button").nth(0).click()
        assert page.locator("#layer").input_value() == "0"
        page.locator(".token").nth(7).hover()
        assert weights(page)[5] == "1.00", "it looks at the end of input"
        page.select_option("#layer", "null")
        assert page.locator("#head").is_disabled() and "is moved by" in page.locator("#told").inner_text()
        page.locator("#scores button", has_text="layer 1 head 0").click()
        assert "layer 1 head 0: 1.00" in page.locator(".pattern", has_text="iteration").inner_text()
        page.locator("#step").focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#step-told").inner_text() == "step 50"
        assert page.locator(".said.wrong").count() > 0
        assert "layer 1 head 0: 1.00" not in page.locator(".pattern", has_text="iteration").inner_text()
        page.select_option("#sequence", "1")
        assert page.locator(".token").count() == len(data_of(page_path)["sequences"][1]["tokens"]) == 6


def test_a_head_that_is_switched_off_changes_answers(page_path: Path, browser: Any) -> None:
    with open_page(browser, page_path.as_uri()) as page:
        page.select_option("#layer", "1")
        right = answered(page, ".right")
        n_asked = sum(len(sequence["asked"]) for sequence in data_of(page_path)["sequences"])
        assert len(right) == 5 and not answered(page, ".changed")
        assert page.locator("#right").get_attribute("data-n") == str(n_asked)
        page.locator("#changes input[value=off]").check()
        assert page.locator(".said.changed.wrong").count() > 0
        assert int(page.locator("#right").get_attribute("data-changed")) < n_asked
        page.locator("#changes label", has_text="ideal: iteration").click()
        assert answered(page, ".changed") == right
        assert page.locator("#right").get_attribute("data-changed") == str(n_asked)
        page.select_option("#layer", "null")
        assert not answered(page, ".changed"), "the whole model cannot be switched off"


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_width(page_path: Path, browser: Any, width: int, scheme: str) -> None:
    with open_page(browser, page_path.as_uri(), width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("#map").bounding_box()["height"] > 200


def test_what_a_model_or_a_config_wrote_is_never_run(browser: Any, tmp_path: Path) -> None:
    folder = write_handmade_run(tmp_path / "<script>window.owned = 1<")
    shown = Shown(EVIL, tuple(range(6)), {4: 5, 5: 6})
    page_path = explore(folder, (), Exhibits((shown, shown), EVIL, lambda token: EVIL, (), {EVIL: EVIL}))
    with open_page(browser, page_path.as_uri()) as page:
        page.locator("#changes input[value=off]").check()
        page.select_option("#sequence", "1")
        assert page.evaluate("[typeof window.owned, document.scripts.length, document.images.length]") == [
            "undefined",
            2,
            0,
        ]
        assert "</script><script>" in page.locator("#told").inner_text()
        assert page.title() == "Inside <script>window.owned = 1<"

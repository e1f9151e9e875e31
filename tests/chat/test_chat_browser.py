"""The page of a chat in a real browser: asked, hovered over, by keys, at both widths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from spoken import EVIL, EvilTool, endless, speaker

from nanollama.chat.server import ChatServer
from nanollama.tokenizer import Message
from tests.browser import NARROW, WIDE, open_page, wait_until
from tests.page_attacks import at_work
from tests.toy_dialogs import TOKENIZER, toy_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with at_work(ChatServer(speaker(), 0)) as server:
        yield server


def ask(page: Any, question: str) -> None:
    page.wait_for_selector("#examples button")
    page.fill("#question", question)
    page.keyboard.press("Enter")
    page.wait_for_selector(".dialog")


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_a_question_its_request_reply_and_answer(
    server: ChatServer, browser: Any, width: int, scheme: str
) -> None:
    with open_page(browser, server.url, width, scheme) as page:
        ask(page, "a")
        roles = page.locator(".dialog .role").all_inner_texts()
        said = page.locator(".dialog .said").all_inner_texts()
        assert list(zip(roles, said, strict=True)) == [
            ("question", "<user>a<assistant>"),
            ("request", "?a<database>"),
            ("database", "red<assistant>"),
            ("answer", "a: red.<end>"),
        ]
        assert "truth: red (a letter)" in page.locator(".truth").inner_text()
        assert page.locator(".dialog.right .verdict").inner_text() == "✓ right"
        page.locator(".dialog .token").last.hover()
        page.wait_for_selector("#tip .looked:has-text('looked at')")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_hovering_tells_the_probability_and_what_was_looked_at(server: ChatServer, browser: Any) -> None:
    model = server.conversation.speaker.model
    with open_page(browser, server.url) as page:
        ask(page, "b")
        ids = [*TOKENIZER.encode_prompt([Message("user", "b")]), ord("?")]
        page.locator(".written .token").first.hover()
        tip = page.locator("#tip")
        with torch.no_grad():
            row = model(torch.tensor([ids]))[0, -2].softmax(dim=-1)
        assert float(tip.locator(".first").get_attribute("data-p")) == pytest.approx(
            float(row[ord("?")]), rel=1e-4
        )
        assert "probability 0." in tip.inner_text() and "most likely: “?” 0." in tip.inner_text()
        page.wait_for_selector("#tip .looked:has-text('layer 1, mean over 2 heads')")
        shades = [
            float(node.evaluate("node => node.style.getPropertyValue('--looked') || 0"))
            for node in page.locator(".dialog .token").all()
        ]
        assert max(shades) == 1 and not any(shades[len(ids) - 1 :])
        page.select_option("#layer", "0")
        page.select_option("#head", "1")
        page.locator(".written .token").nth(1).hover()
        page.wait_for_selector("#tip .looked:has-text('layer 0, head 1')")
        page.mouse.move(2, 2)
        assert tip.is_hidden()


def test_the_same_by_keys(server: ChatServer, browser: Any) -> None:
    with open_page(browser, server.url) as page:
        ask(page, "c")
        page.locator(".dialog").first.focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#tip .first").inner_text() == "“<end>”"
        page.keyboard.press("ArrowLeft")
        assert page.locator("#tip .first").inner_text() == "“.”"
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()


def test_what_a_model_or_its_tool_wrote_is_never_run_and_the_calculator_is_named(browser: Any) -> None:
    with at_work(ChatServer(speaker(tool=EvilTool()), 0)) as server, open_page(browser, server.url) as page:
        ask(page, "a")
        page.fill("#question", EVIL.replace(" ", "\u00a0"))
        page.keyboard.press("Enter")
        wait_until(page, lambda: page.locator(".dialog").count() > 1)
        assert "calculator" in page.locator(".dialog .tool .role").all_inner_texts()
        assert EVIL[:40] in page.locator(".dialog .tool .said").last.inner_text()
        assert page.title() == "nanollama chat" and page.locator("img").count() == 0
        assert EVIL in page.locator("#about").inner_text()


def test_a_mixer_without_maps_and_a_model_without_end(browser: Any) -> None:
    model = toy_model(implementation="mingru", n_heads=None)
    with at_work(ChatServer(speaker(model), 0)) as server, open_page(browser, server.url) as page:
        ask(page, "a")
        page.locator(".written .token").first.hover()
        page.wait_for_selector("#tip .looked:has-text('has no attention maps')")
    with at_work(ChatServer(endless(), 0)) as server, open_page(browser, server.url) as page:
        ask(page, "a")
        assert page.locator(".note").inner_text() == "cut off: the model did not come to an end"


def test_a_refusal_is_told(browser: Any, server: ChatServer) -> None:
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("#examples button")
    page.route("**/api/ask", lambda route: route.fulfill(status=503, body=json.dumps("busy")))
    page.locator("#examples button").first.click()
    page.wait_for_selector("#status.wrong:has-text('busy')")
    assert page.locator("#ask").is_enabled()
    page.close()

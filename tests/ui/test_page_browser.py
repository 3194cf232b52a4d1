"""The page in a browser: one quick walk with versions of nothing."""

from pathlib import Path
from typing import Any

from browser_kit import PHONE, ask, browsing, log_in, needs_browser
from ui_kit import paged, until

KEY = "configured-key"


@needs_browser
def test_somebody_logs_in_asks_and_says_what_they_think(tmp_path: Path, hall_at: Any) -> None:
    hall = hall_at(tmp_path / "assistant")
    with paged(hall, api_keys=(KEY,)) as server, browsing(PHONE) as (page, wrong):
        log_in(page, server.url, KEY)
        ask(page, "hello")
        assert "1: hello" in page.inner_text("#n-left")
        page.locator("#n-good").focus()
        page.keyboard.press("Enter")
        until(lambda: len(hall.ledger.feedback()) == 1)
        page.fill("#n-correction textarea", "hello to you")
        page.click("#n-give")
        until(lambda: len(hall.ledger.feedback()) == 2)
        page.goto(f"{server.url}/ui/zh/")
        page.wait_for_selector("#n-send")
        assert page.inner_text("#n-send") == "发送"
        assert wrong == []
    said = {one.kind: (one.value, one.text) for one in hall.ledger.feedback()}
    assert said == {"thumb": (1, ""), "correction": (None, "hello to you")}

"""A real browser without a window: the system's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ui_kit import installed

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or not installed("playwright") or not installed("axe_playwright_python"),
    reason="no Chromium (apt-get install chromium) or no driver for it (make install-ui)",
)
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PATIENCE_MS = 120_000


@contextmanager
def browsing(size: dict[str, int], language: str = "en-US") -> Iterator[tuple[Any, list[str]]]:
    """A fresh page, and what it asked of other places than the server it shows or broke on."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport=size, locale=language, color_scheme="light").new_page()
        page.set_default_timeout(PATIENCE_MS)
        wrong: list[str] = []

        def asked(request: Any) -> None:
            place = urlsplit(request.url)
            if place.scheme not in ("data", "blob", "about") and place.hostname != "127.0.0.1":
                wrong.append(request.url)

        page.on("request", asked)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        try:
            yield page, wrong
        finally:
            browser.close()


def log_in(page: Any, url: str, key: str) -> None:
    """With the keyboard alone: the field has the focus."""
    page.goto(f"{url}/ui")
    page.wait_for_function("document.activeElement.id === 'key'")  # given once it is drawn, which may be after the load
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.wait_for_selector("#n-send")
    page.wait_for_function("document.querySelector('#n-model input').value !== ''")


def ask(page: Any, question: str) -> None:
    """Write a question, press Enter, and wait for the whole answer."""
    page.locator("#n-told .n-said").evaluate_all("all => all.forEach(one => one.remove())")
    page.fill("#n-text textarea", question)
    page.keyboard.press("Enter")
    page.wait_for_selector("#n-told .n-said")


def choose_tab(page: Any, name: str) -> None:
    """Show a tab; on a narrow page some are in a menu."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.count() and tab.first.is_visible():
        tab.first.click()
    else:
        page.locator(".overflow-menu > button").first.click()
        page.locator(".overflow-dropdown button", has_text=name).first.click()


def picture(page: Any, path: Path, *, whole: bool = False) -> None:
    """Save what is seen, once it is still; `whole`: down to the end of the page."""
    page.wait_for_timeout(400)
    page.screenshot(path=path, full_page=whole)
    assert path.stat().st_size > 5_000, "nothing was drawn"


def faults(page: Any) -> list[str]:
    """What axe finds of WCAG 2.1 A and AA, by rule and place."""
    from axe_playwright_python.sync_playwright import Axe

    tags = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found = Axe().run(page, options=tags).response["violations"]
    return [f"{one['id']}: {node['target']} {node['html'][:160]}" for one in found for node in one["nodes"]]

"""The whole page over a workspace that really learned: every tab, wide and narrow, with pictures for the documents."""

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser_kit import PHONE, WIDE, ask, browsing, choose_tab, faults, log_in, needs_browser, picture

from nacre.cycle.releases.steering import actions
from nacre.cycle.workspace import Workspace
from nacre.demo.run import run
from nacre.demo.skills import CORRECTION
from nacre.serve.run import LedgerSource, background
from nacre.serve.settings import Serve

IMAGES = Path(__file__).parents[2] / "docs" / "images"
QUESTIONS = (
    "Is this review good or bad?\nThe play was touching. The concert was wonderful and worth every coin.",
    "Which page of the newspaper is this headline from?\nGoalkeeper scores twice in the final",
    CORRECTION[0],
)
ANSWERS = ("good", "sports", CORRECTION[1])


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves: eight versions on two branches, a harvest, a rollback."""
    folder = tmp_path_factory.mktemp("page") / "demo"
    run(folder, quiet=True)
    return folder


@contextmanager
def open_house(folder: Path) -> Iterator[tuple[str, str, Workspace]]:
    """A server over the workspace with the page, and a key for everything."""
    from nacre.ui.page import page

    with Workspace.open(folder) as space:
        _, key = space.ledger.keys.create("boss", ["admin", "infer", "feedback"])
        source = LedgerSource(space.ledger, space.weights, space.hidden / "secret", space.serving, actions(space), page)
        with background(source, Serve(port=0)) as url:
            yield url, key, space


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def post(url: str, key: str, path: str, body: Any) -> Any:
    headers = bearer(key) | {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url + path, json.dumps(body).encode(), headers)) as reply:
        return json.load(reply)


def names(url: str, key: str) -> set[str]:
    """Of the versions that answer."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/models", headers=bearer(key))) as reply:
        return {one["id"] for one in json.load(reply)["data"]}


def some_traffic(url: str, key: str) -> None:
    """A release in the shadow with a few pairs, and opinions of users on the champion's answers."""
    post(url, key, "/admin/release/start", {"version": 8, "force": True, "why": "learned from a correction"})
    while "nacre:shadow" not in names(url, key):  # it is loaded behind the champion
        time.sleep(0.05)
    for place, question in enumerate(QUESTIONS * 2):
        messages = [{"role": "user", "content": question}]
        asked = {"model": "nacre", "messages": messages, "user": f"user {place}", "temperature": 0, "max_tokens": 24}
        answer = post(url, key, "/v1/chat/completions", asked)
        opinion = ({"stars": 5}, {"thumb": "up"}, {"correction": ANSWERS[2]})[place % 3]
        post(url, key, "/v1/feedback", {"response_id": answer["id"], **opinion})


def walk(url: str, key: str, images: Path, size: dict[str, int], suffix: str = "") -> None:
    """Through every tab, with pictures and without faults of contrast, names and roles."""
    with browsing(size) as (page, wrong):
        log_in(page, url, key)
        ask(page, QUESTIONS[0])
        picture(page, images / f"ui-chat{suffix}.png")
        found = faults(page)
        page.fill("#n-correction textarea", ANSWERS[0])
        page.locator("#n-opinion").scroll_into_view_if_needed()
        picture(page, images / f"ui-correction{suffix}.png", whole=bool(suffix))
        page.click("#n-give")
        page.wait_for_selector("#n-told .n-said:not(.n-wrong)")
        page.check("#n-compare input")
        page.wait_for_selector("#n-right")
        ask(page, QUESTIONS[1])
        picture(page, images / f"ui-side-by-side{suffix}.png")
        page.click("#n-left-better")
        page.wait_for_selector("#n-told .n-said:not(.n-wrong)")
        choose_tab(page, "Evolution")
        for part in ("matrix", "lines", "lineage"):
            page.wait_for_selector(f"#n-{part} .n-wide")
            page.locator(f"#n-{part}").scroll_into_view_if_needed()
            page.locator(f"#n-{part}").screenshot(path=images / f"ui-{part}{suffix}.png")
        found += faults(page)
        choose_tab(page, "Release")
        page.wait_for_selector("#n-state .n-table")
        page.get_by_role("button", name="What both answered").click()
        page.wait_for_selector("#n-pairs .n-table td")
        picture(page, images / f"ui-release{suffix}.png", whole=True)
        found += faults(page)
        choose_tab(page, "Feedback")
        page.wait_for_selector("#n-cards .n-cards li")
        page.wait_for_selector("#n-drafts .n-said")
        picture(page, images / f"ui-feedback{suffix}.png")
        found += faults(page)
        choose_tab(page, "Data")
        page.wait_for_function("document.querySelector('#n-increment input').value !== ''")
        page.click("#n-make")
        page.frame_locator("iframe.n-frame").locator("h1").wait_for()
        picture(page, images / f"ui-data-report{suffix}.png")
        found += faults(page)
        choose_tab(page, "Training")
        page.wait_for_selector("#n-curves .n-said")
        page.click("#n-which input")
        page.get_by_role("option", name="version 7").click()
        page.wait_for_selector("#n-curves .n-plot")
        picture(page, images / f"ui-training{suffix}.png", whole=True)
        found += faults(page)
        assert found == []
        page.evaluate("document.body.append(document.createElement('button'))")
        assert any(one.startswith("button-name") for one in faults(page)), "axe does not see what it should"
        assert wrong == []


@needs_browser
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(1800)  # the demo's eight versions are trained first
def test_every_tab_wide_and_narrow(learned: Path, tmp_path: Path) -> None:
    with open_house(learned) as (url, key, space):
        some_traffic(url, key)
        folder = Path(os.environ.get("NACRE_IMAGES", tmp_path))  # docs/images makes the documents' pictures anew
        walk(url, key, folder, WIDE)
        walk(url, key, folder, PHONE, "-phone")
        kinds = {one.kind for one in space.ledger.feedback()}
        assert {"stars", "thumb", "correction", "pair"} <= kinds
    made = {path.name for path in folder.glob("ui-*.png")}
    shown = {path.name for path in IMAGES.glob("ui-*.png")}
    assert len(shown) >= 10
    assert shown <= made, "the documents show a picture that no test makes"


@needs_browser
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(1800)  # the demo's eight versions are trained first
def test_a_release_is_aborted_after_one_more_question(learned: Path) -> None:
    with open_house(learned) as (url, key, space), browsing(WIDE) as (page, wrong):
        if space.ledger.releases.active() is None:
            post(url, key, "/admin/release/start", {"version": 8, "force": True})
        log_in(page, url, key)
        choose_tab(page, "Release")
        page.get_by_label("abort the release").check()
        page.fill("#n-why input, #n-why textarea", "complaints")
        page.click("#n-do")
        page.click("#n-no")
        page.wait_for_selector("#n-moved .n-said")
        assert space.ledger.releases.active() is not None
        page.click("#n-do")
        page.wait_for_selector("#n-yes")
        assert faults(page) == []
        page.get_by_label("hold the release").check()  # chosen after the question, so it is not what is confirmed
        page.click("#n-yes")
        page.wait_for_function("document.querySelector('#n-moved').innerText.startsWith('Done')")
        assert space.ledger.releases.active() is None
        assert space.ledger.releases.all()[-1].why == "complaints"
        assert wrong == []

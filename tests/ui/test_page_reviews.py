"""Rows that wait for review, in the page: shown safely, judged, written anew, and made an increment."""

from pathlib import Path
from typing import Any

from browser_kit import WIDE, browsing, choose_tab, faults, log_in, needs_browser
from ui_kit import paged

from nacre.records import Example, Message
from nacre.records.draft import FROM_FEEDBACK, Draft
from nacre.ui.pictures import seen, table

NASTY = '<img src=x onerror="document.title=1"> \u202eevil'


def test_what_cannot_be_seen_is_shown_as_its_code() -> None:
    assert seen(NASTY) == "&lt;img src=x onerror=&quot;document.title=1&quot;&gt; &lt;U+202E&gt;evil"
    assert "<img" not in table(["head"], [[NASTY]], label=NASTY)
    assert seen("两行\n一\t二") == "两行\n一\t二"


def draft(question: str, answer: str) -> Draft:
    row = Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
    )
    return Draft(queue="feedback_1", row=row, model=FROM_FEEDBACK, created="2026-01-01T00:00:00")


@needs_browser
def test_rows_are_rejected_written_anew_and_made_an_increment(tmp_path: Path, hall_at: Any) -> None:
    hall = hall_at(tmp_path / "reviewed")
    hall.ledger.drafts.add([draft(NASTY, "yes"), draft("three?", "4"), draft("four?", "4")])
    first, second, third = (one.id for one in hall.ledger.drafts.drafts())
    _, key = hall.ledger.keys.create("boss", ["admin", "infer"])
    with paged(hall) as server, browsing(WIDE) as (page, wrong):
        log_in(page, server.url, key)
        choose_tab(page, "Feedback")
        page.wait_for_selector("#n-drafts .n-cards li:nth-child(3)")
        assert "<U+202E>evil" in page.locator("#n-drafts").inner_text()
        page.get_by_label(f"#{first}").check()
        page.click("#n-draft-reject")
        page.wait_for_function("document.querySelectorAll('#n-drafts .n-cards li').length === 2")
        page.get_by_label(f"#{second}").check()
        page.click("#n-draft-edit")
        page.wait_for_function("document.querySelector('#n-draft-answer textarea')?.value === '4'")
        page.fill("#n-draft-answer textarea", " ")
        page.click("#n-draft-save")
        page.wait_for_selector("#n-draft-told .n-wrong")
        assert page.locator("#n-draft-question textarea").input_value() == "three?", "what was written is kept"
        page.fill("#n-draft-answer textarea", "3")
        page.click("#n-draft-save")
        page.wait_for_function("document.querySelectorAll('#n-drafts .n-cards li').length === 1")
        page.get_by_label(f"#{third}").check()
        page.click("#n-draft-accept")
        page.wait_for_selector("#n-draft-write:visible")
        assert faults(page) == []
        page.click("#n-draft-write")
        page.wait_for_function("document.querySelector('#n-draft-told').innerText.includes('train.jsonl')")
        assert page.title() == "nacre"
        assert wrong == []
    assert [one.status for one in hall.ledger.drafts.drafts()] == ["rejected", "accepted", "accepted"]
    written = (hall.space.dataset_dir / "feedback_1" / "train.jsonl").read_text()
    assert [part in written for part in ("three?", "four?", "evil")] == [True, True, False]
    assert hall.ledger.drafts.drafts()[1].row.answer == "3"

"""Rows that wait for a person, through the admin API: listed, judged, corrected, and written before they count."""

import json
from typing import Any

from gateway_kit import Hall, send, until

from nacre.records import Example, Message
from nacre.records.draft import FROM_FEEDBACK, Draft
from nacre.records.example import Origin
from nacre.serve.admin_drafts import DRAFT_ROUTES


def row(question: str, *answers: str) -> Example:
    return Example(
        kind="preference" if len(answers) == 2 else "sft",
        prompt=(Message(role="user", content=question),),
        answers=tuple(Message(role="assistant", content=answer) for answer in answers),
        origin=Origin(extra={"feedback": ""}),
    )


def queue(hall: Hall, name: str, *rows: Example, model: str = FROM_FEEDBACK) -> list[int]:
    hall.ledger.drafts.add([Draft(queue=name, row=one, model=model, created="2026-01-01T00:00:00") for one in rows])
    return [one.id for one in hall.ledger.drafts.drafts(name)]


def test_every_route_needs_the_scope_admin(hall: Hall, url: str, admin: str) -> None:
    _, low = hall.ledger.keys.create("low", ["infer", "feedback"])
    until(lambda: send(url, "/v1/models", key=low).status == 200)
    for route in DRAFT_ROUTES:
        path = route.path.replace("{number}", "1")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            assert send(url, path, method=method).status == 401, path
            assert send(url, path, key=low, method=method).code == "missing_scope", path


def test_rows_are_judged_corrected_and_written(hall: Hall, url: str, admin: str) -> None:
    assert send(url, "/admin/drafts?queue=nothing", key=admin).status == 400
    first, second, third = queue(hall, "feedback_1", row("one", "1"), row("two", "2"), row("three", "4"))
    told = send(url, "/admin/drafts", key=admin).body
    assert [one["id"] for one in told["drafts"]] == [first, second, third]
    assert told["queue"] == "feedback_1"
    assert told["queues"][0] == {
        "queue": "feedback_1",
        "harvested": True,
        "open": 3,
        "accepted": 0,
        "rejected": 0,
        "ready": 0,
    }
    nothing = send(url, "/admin/drafts/write", {"queue": "feedback_1"}, key=admin)
    assert (nothing.status, "no row was accepted" in nothing.body["error"]["message"]) == (400, True)
    assert send(url, "/admin/drafts", {"ids": [first], "status": "accepted"}, key=admin).status == 200
    assert send(url, "/admin/drafts", {"ids": [second], "status": "rejected"}, key=admin).status == 200
    edited = send(url, f"/admin/drafts/{third}", {"question": "three?", "answer": " 3 "}, key=admin).body
    assert (edited["status"], edited["question"], edited["answer"], edited["edited"]) == (
        "accepted",
        "three?",
        "3",
        True,
    )
    again = send(url, "/admin/drafts", {"ids": [second], "status": "accepted"}, key=admin)
    assert (again.status, "was rejected by key" in again.body["error"]["message"]) == (400, True)
    assert send(url, "/admin/drafts/write", {"queue": "feedback_1", "increment": "other"}, key=admin).status == 400
    written = send(url, "/admin/drafts/write", {"queue": "feedback_1"}, key=admin).body
    assert written == {"queue": "feedback_1", "file": "dataset/feedback_1/train.jsonl", "rows": 2}
    lines = (hall.space.dataset_dir / "feedback_1" / "train.jsonl").read_text().splitlines()
    assert ["three?" in line for line in lines] == [False, True]
    assert {json.loads(line)["accepted_by"] for line in lines} == {f"key {admin.split('_')[1]}"}
    assert send(url, "/admin/drafts", key=admin).body["queues"][0]["ready"] == 0


def test_all_or_none_are_judged(hall: Hall, url: str, admin: str) -> None:
    ids = queue(hall, "batch", row("a", "1"), row("b", "2"), model="some model")
    bodies: list[dict[str, Any]] = [
        {"ids": [*ids, 9999], "status": "accepted"},
        {"ids": [], "status": "accepted"},
        {"ids": ids, "status": "open"},
        {"ids": ids},
    ]
    for body in bodies:
        assert send(url, "/admin/drafts", body, key=admin).status == 400, body
    assert {one.status for one in hall.ledger.drafts.drafts("batch")} == {"open"}
    assert send(url, "/admin/drafts", {"ids": [*ids, *ids], "status": "accepted"}, key=admin).status == 200
    body = {"queue": "batch", "increment": "../away"}
    assert send(url, "/admin/drafts/write", body, key=admin).status == 400
    assert send(url, "/admin/drafts/write", body | {"increment": "mine"}, key=admin).body["rows"] == 2


def test_an_edit_says_something_and_is_better_than_what_it_is_better_than(hall: Hall, url: str, admin: str) -> None:
    (identity,) = queue(hall, "pairs", row("which?", "this", "that"))
    assert send(url, "/admin/drafts?queue=pairs", key=admin).body["drafts"][0]["worse"] == "that"
    for edit in ({"question": " ", "answer": "x"}, {"question": "which?", "answer": "that "}, {"question": "which?"}):
        assert send(url, f"/admin/drafts/{identity}", edit, key=admin).status == 400, edit
    assert send(url, f"/admin/drafts/{identity}", {"question": "which?", "answer": "these"}, key=admin).status == 200
    assert hall.ledger.drafts.drafts("pairs")[0].row.answers[1].content == "that"

"""The admin API's views: matrix, lineage, opinions and what a person says of them, data reports, trainings."""

import json
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import Hall, chat, send, until

from nacre.base.files import file_lock
from nacre.serve.admin_evolution import EVOLUTION_ROUTES


@pytest.fixture(scope="module")
def admin(hall: Hall) -> str:
    return hall.ledger.keys.create("boss", ["admin", "infer", "feedback"])[1]


def test_every_view_needs_the_scope_admin(hall: Hall, url: str, admin: str) -> None:
    _, low = hall.ledger.keys.create("low", ["infer", "feedback"])
    until(lambda: chat(url, key=low).status == 200)
    for route in EVOLUTION_ROUTES:
        path = route.path.replace("{number}", "1").replace("{name}", "base")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            assert send(url, path, method=method).status == 401, path
            assert send(url, path, key=low, method=method).code == "missing_scope", path


def test_lineage_verdicts_and_curves(hall: Hall, url: str, admin: str) -> None:
    nodes = send(url, "/admin/lineage", key=admin).body["nodes"]
    assert [one["number"] for one in nodes] == [0, 1, 2, 3, 4]
    assert nodes[1]["slots"] == ["champion"]
    flips = send(url, "/admin/versions/1/flips", key=admin).body
    assert flips == {"version": 1, "against": None, "verdict": None}
    assert send(url, "/admin/versions/9/flips", key=admin).status == 400
    assert send(url, "/admin/versions/1/curves", key=admin).body == {"version": 1, "task": "t", "points": []}
    refused = send(url, "/admin/matrix", key=admin)
    assert (refused.status, "no task has dev rows" in refused.body["error"]["message"]) == (400, True)
    assert send(url, "/admin/matrix?version=x", key=admin).status == 400
    assert send(url, "/admin/matrix?version=99", key=admin).status == 400
    page = send(url, "/admin/versions/1/report?lang=zh", key=admin)
    assert (page.status, page.headers["content-security-policy"]) == (200, "sandbox")


def test_opinions_are_listed_and_judged(hall: Hall, url: str, admin: str) -> None:
    for question in ("one", "two"):
        answer = chat(url, question, key=admin)
        assert (
            send(url, "/v1/feedback", {"response_id": answer.body["id"], "correction": "it"}, key=admin).status == 200
        )
    found = send(url, "/admin/feedback?status=new", key=admin).body
    newest, oldest = found["feedback"]
    assert (newest["question"], newest["answer"], newest["version"]) == ("two", "1: two", 1)
    ids = [newest["id"], oldest["id"]]
    judged = send(url, "/admin/feedback", {"ids": ids[:1], "status": "accepted", "why": "seen"}, key=admin)
    assert judged.body == {"ids": ids[:1], "status": "accepted"}
    assert send(url, "/admin/feedback", {"ids": ids[1:], "status": "rejected"}, key=admin).status == 200
    after = {one.id: (one.status, one.why) for one in hall.ledger.feedback()}
    assert after == {ids[0]: ("accepted", "seen"), ids[1]: ("rejected", "by the admin API")}
    told = [event for event in hall.ledger.events() if event.kind == "feedback decided"]
    first, last = [(event.actor, event.detail["ids"], event.detail["status"]) for event in told]
    assert first == (f"key {admin.split('_')[1]}", ids[:1], "accepted")
    assert last[1:] == (ids[1:], "rejected")
    assert send(url, "/admin/feedback", key=admin).body["counts"] == {"accepted": 1, "rejected": 1}
    hall.ledger.mark_feedback(ids[:1], "exported")
    refused = send(url, "/admin/feedback", {"ids": ids, "status": "accepted"}, key=admin)
    assert (refused.status, "made into rows" in refused.body["error"]["message"]) == (400, True)
    assert hall.ledger.feedback()[0].status == "rejected"
    answer = chat(url, "three", key=admin, headers={"x-nacre-consent": "no"})
    private = send(url, "/v1/feedback", {"response_id": answer.body["id"], "correction": "it"}, key=admin).body["ids"]
    refused = send(url, "/admin/feedback", {"ids": private, "status": "accepted"}, key=admin)
    assert (refused.status, "did not consent" in refused.body["error"]["message"]) == (400, True)
    assert send(url, "/admin/feedback", {"ids": private, "status": "rejected"}, key=admin).status == 200
    with file_lock(hall.space.hidden / "harvest.lock"):
        busy = send(url, "/admin/feedback", {"ids": ids[1:], "status": "accepted"}, key=admin)
    assert busy.status in (409, 503)


@pytest.mark.parametrize(
    "body",
    [{}, {"ids": [], "status": "accepted"}, {"ids": [1], "status": "exported"}, {"ids": [999], "status": "accepted"}],
    ids=json.dumps,
)
def test_wrong_judgements_change_nothing(hall: Hall, url: str, admin: str, body: Any) -> None:
    before = hall.ledger.feedback()
    assert send(url, "/admin/feedback", body, key=admin).status == 400
    assert hall.ledger.feedback() == before
    assert send(url, "/admin/feedback?status=nice", key=admin).status == 400


def test_data_reports_and_trainings(hall: Hall, url: str, admin: str) -> None:
    folder: Path = hall.space.dataset_dir / "t"
    folder.mkdir(parents=True)
    rows = [{"instruction": f"what is {number}?", "output": str(number)} for number in range(30)]
    (folder / "train.json").write_text(json.dumps(rows))
    assert send(url, "/admin/increments", key=admin).body == {"increments": ["t"]}
    page = send(url, "/admin/increments/t/report", key=admin)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"30 rows" in page.body
    for name in ("nothing", "..", "%2e%2e", "base%2f..%2fbase"):
        assert send(url, f"/admin/increments/{name}/report", key=admin).status in (400, 404), name
    assert send(url, "/admin/trainings", key=admin).body == {"trainings": []}
    run = hall.space.hidden / "runs" / "0123"
    run.mkdir(parents=True)
    (run / "trainer_log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    (told,) = send(url, "/admin/trainings", key=admin).body["trainings"]
    assert (told["run"], told["points"]) == ("0123", [{"step": 1, "loss": 2.5}])

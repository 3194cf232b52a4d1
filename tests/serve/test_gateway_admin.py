"""The admin API: all of `nacre release`, slots, versions and keys over HTTP, and its own listener."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import Hall, NamedEngine, Reply, chat, make_hall, send, serving, until

from nacre.records import Weights


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    NamedEngine.forget()
    made = make_hall(tmp_path / "assistant")
    yield made
    made.space.close()


@pytest.fixture
def admin(hall: Hall) -> str:
    return hall.ledger.keys.create("boss", ["admin", "infer"])[1]


def test_a_release_from_start_to_rollback(hall: Hall, admin: str) -> None:
    with serving(hall) as server:

        def post(path: str, body: Any = None) -> Reply:
            return send(server.url, f"/admin/{path}", body, key=admin, method="POST")

        refused = post("release/start", {"version": 2})
        assert (refused.status, refused.code) == (400, "refused")
        assert "never judged" in refused.body["error"]["message"]
        begun = post("release/start", {"version": 2, "why": "tried", "force": True})
        assert (begun.status, begun.body["state"], begun.body["version"]) == (200, "shadow", 2)
        again = post("release/start", {"version": 3, "force": True})
        assert (again.status, "version 2 is being released" in again.body["error"]["message"]) == (400, True)
        seen = send(server.url, "/admin/release", key=admin).body
        assert seen["active"]["possible"] == ["hold", "tick", "abort", "promote", "rollback"]
        assert seen["slots"] == {"champion": 1, "shadow": 2}
        assert post("release/hold", {"why": "weekend"}).body["held"] == "weekend"
        assert post("release/approve").status == 400
        assert post("release/resume").body["held"] == ""
        assert post("release/tick").body["look"]["decision"] == "wait"
        assert post("release/promote", {"why": "enough"}).body["state"] == "champion"
        until(lambda: chat(server.url, key=admin).text == "2: hello")
        assert post("release/rollback").body["state"] == "rolled back"
        until(lambda: chat(server.url, key=admin).text == "1: hello")
        assert post("promote", {"version": 3, "force": True}).body["kind"] == "promoted"
        until(lambda: chat(server.url, key=admin).text == "3: hello")
        slots = send(server.url, "/admin/slots", key=admin).body
        assert (slots["answering"]["champion"], slots["slots"]["previous-1"]["version"]) == (3, 1)
        assert post("rollback", {"to": 1}).status == 200
        assert [one["version"] for one in send(server.url, "/admin/versions", key=admin).body["versions"]] == [
            1,
            2,
            3,
            4,
        ]
        assert send(server.url, "/admin/versions/4", key=admin).body["number"] == 4
        assert send(server.url, "/admin/versions/9", key=admin).status == 400
        assert post("release/burn").status == 404
        assert post("release/abort").status == 400
    actors = {event.actor for event in hall.ledger.events() if event.kind.startswith(("release", "promoted", "rolled"))}
    identity = admin.split("_")[1]
    assert actors == {"test", f"key {identity}"}
    hall.ledger.verify_chain()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("release/start", {}),
        ("release/start", {"version": "../1", "force": True}),
        ("release/start", {"version": 2, "forse": True}),
        ("promote", {"version": 0}),
        ("rollback", {"to": -1}),
        ("keys", {"name": "x", "scopes": ["root"]}),
        ("keys", {"scopes": ["infer"]}),
        ("keys", {"name": "x", "expires_s": -5}),
        ("keys", {"name": "x", "limits": {"requests": 0}}),
        ("keys/ffffffff/revoke", None),
        ("keys/ffffffff/rotate", {"grace_s": "long"}),
        ("release/hold", [1]),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
def test_mistakes_are_told_and_change_nothing(hall: Hall, admin: str, path: str, body: Any) -> None:
    events = len(hall.ledger.events())
    with serving(hall) as server:
        reply = send(server.url, f"/admin/{path}", body, key=admin, method="POST")
    assert reply.status == 400
    assert reply.body["error"]["message"]
    assert len(hall.ledger.events()) == events


def test_keys_are_made_rotated_and_taken_back_at_once_on_this_server(hall: Hall, admin: str) -> None:
    with serving(hall) as server:

        def post(path: str, body: Any = None) -> Reply:
            return send(server.url, f"/admin/{path}", body, key=admin, method="POST")

        made = post("keys", {"name": "ann", "limits": {"requests": 100}})
        assert (made.status, made.headers["cache-control"]) == (200, "no-store")
        assert made.body["scopes"] == ["infer", "feedback"]
        identity, first = made.body["id"], made.body["secret"]
        assert chat(server.url, key=first).status == 200
        second = post(f"keys/{identity}/rotate", {"grace_s": 60}).body["secret"]
        assert [chat(server.url, key=key).status for key in (first, second)] == [200, 200]
        assert post(f"keys/{identity}/revoke").body["revoked"]
        assert [chat(server.url, key=key).status for key in (first, second)] == [401, 401]
        listed = send(server.url, "/admin/keys", key=admin)
        assert [one["name"] for one in listed.body["keys"]] == ["boss", "ann"]
        assert first not in str(listed.body)


def test_on_a_listener_of_its_own_it_is_nowhere_else(hall: Hall, admin: str) -> None:
    with serving(hall, admin_port=0) as server:
        assert server.admin_url != server.url
        for path in ("/admin/slots", "/metrics"):
            assert send(server.url, path).status == 401
            assert send(server.url, path, key=admin).status == 404
        assert send(server.admin_url, "/admin/slots").status == 401
        assert send(server.admin_url, "/admin/slots", key=admin).status == 200
        assert send(server.admin_url, "/v1/models", key=admin).status == 404
        assert send(server.admin_url, "/health").body == {"status": "ok"}
        chat(server.url, key=admin)
        assert b"nacre_answers_total" in send(server.admin_url, "/metrics").body


def test_a_folder_without_a_ledger_has_nothing_to_steer() -> None:
    with serving(Weights(identity="5" * 64, model="/nowhere"), admin_port=0, api_keys=("one",)) as server:
        assert chat(server.url, key="one").status == 200
        assert send(server.admin_url, "/admin/keys", key="one").status == 403
        assert send(server.admin_url, "/metrics").status == 200

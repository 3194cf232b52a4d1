"""The page's routes from outside: without a session nothing but the form, and with one nothing but what it needs."""

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.routing import Mount
from ui_kit import Hall, paged, until

from nacre.serve.gateway.keyring import KeyRing
from nacre.serve.run import ApiServer
from nacre.ui import door
from nacre.ui.door import LANGUAGES

KEY = "configured-key"
FILLED = {"path": "x", "path:path": "x", "url_path:path": "http://127.0.0.1:1/", "path_or_url:path": "/etc/passwd"}


@dataclass(frozen=True)
class Got:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def cookie(self) -> str:
        return self.headers.get("set-cookie", "").partition(";")[0]


def ask(
    url: str, path: str, *, method: str = "GET", cookie: str = "", body: str = "", headers: Mapping[str, str] = {}
) -> Got:
    """One request, no redirect followed; of a stream the first bytes."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    kind = "application/x-www-form-urlencoded" if "=" in body[:10] else "application/json"
    try:
        connection.request(
            method, path, body or None, {"content-type": kind} | ({"cookie": cookie} if cookie else {}) | dict(headers)
        )
        reply = connection.getresponse()
        told = {name.lower(): value for name, value in reply.getheaders()}
        return Got(reply.status, told, reply.read(2**20).decode("utf-8", "replace"))
    finally:
        connection.close()


def log_in(url: str, key: str, **headers: str) -> Got:
    return ask(url, "/ui/login", method="POST", body=urlencode({"key": key}), headers=headers)


@pytest.fixture(scope="module")
def server(hall: Hall) -> Iterator[ApiServer]:
    with paged(hall, api_keys=(KEY,)) as server:
        yield server


@pytest.fixture(scope="module")
def url(server: ApiServer) -> str:
    return server.url


def gradio_paths() -> set[tuple[str, str]]:
    """Every route that the installed Gradio has: (method, path with something filled in)."""
    import gradio as gr
    from fastapi import FastAPI

    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Textbox()
    host = gr.mount_gradio_app(FastAPI(), blocks, "/page", ssr_mode=False)
    mounted = next(route.app for route in host.routes if isinstance(route, Mount) and route.path == "/page")
    found: set[tuple[str, str]] = set()

    def walk(routes: Any, prefix: str) -> None:
        for route in routes:
            path = prefix + getattr(route, "path", "")
            if isinstance(route, Mount):
                walk(route.routes, path)
            elif hasattr(route, "original_router"):  # how FastAPI keeps a router that was included
                walk(route.original_router.routes, prefix)
            else:
                filled = re.sub(r"\{([^}]*)\}", lambda name: FILLED.get(name[1], "x"), path)
                found.update((method, filled) for method in route.methods or ())

    walk(mounted.routes, "")
    return found


def test_without_a_session_every_route_is_shut(url: str) -> None:
    paths = gradio_paths()
    assert len(paths) > 40, "the inventory has lost Gradio's routes"
    for language in LANGUAGES:
        for method, path in sorted(paths):
            for cookie in ("", "nacre_ui_0=wrong"):
                got = ask(url, f"/ui/{language}{path}", method=method, cookie=cookie)
                if (method, path) == ("GET", "/"):
                    assert (got.status, got.headers["location"]) == (303, "/ui/login")
                else:
                    assert got.status == 401, (method, path)
    for path in ("/ui", "/ui/"):
        assert ask(url, path).headers["location"] == "/ui/login"
    assert ask(url, "/ui//en/config").status == 401
    assert ask(url, "/ui/%65n/config").status == 401
    assert ask(url, "/uix").status == 401


def test_with_one_only_what_the_page_needs_is_there(url: str) -> None:
    cookie = log_in(url, KEY).cookie
    served = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/assets/x", "/static/x", "/svelte/x"}
    api = {f"/gradio_api/{name}" for name in ("startup-events", "queue/data", "heartbeat/x")}
    posted = {f"/gradio_api/{name}" for name in ("queue/join", "cancel", "reset")}
    for method, path in sorted(gradio_paths()):
        needed = path in served | api if method == "GET" else method == "POST" and path in posted
        if path.endswith("heartbeat/x"):
            continue  # it never ends
        got = ask(url, f"/ui/en{path}", method=method, cookie=cookie)
        refused = got.status == 404 and got.body in ("", "there is nothing")
        assert refused == (not needed), (method, path, got.status)
    for path in ("/gradio_api/file=/etc/passwd", "/assets/../../x", "/static/%2e%2e/x", "/gradio_api/upload"):
        assert ask(url, f"/ui/en{path}", cookie=cookie).status == 404


def test_a_key_opens_a_session_and_nothing_else_does(url: str) -> None:
    for wrong in ("", "wrong", KEY + "x", "x" * 5000):
        got = log_in(url, wrong)
        assert (got.status, got.cookie) == (401, "")
    assert ask(url, "/ui/login", method="POST", body="nonsense").status == 401
    come = log_in(url, KEY)
    assert (come.status, come.headers["location"]) == (303, "/ui/en/")
    assert {"HttpOnly", "Path=/ui", "SameSite=strict"} <= {
        part.strip() for part in come.headers["set-cookie"].split(";")
    }
    assert KEY not in come.headers["set-cookie"]
    page = ask(url, "/ui/en/", cookie=come.cookie)
    assert page.status == 200
    assert KEY not in page.body
    assert page.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert ask(url, "/ui/logout", method="POST", cookie=come.cookie).status == 303
    assert ask(url, "/ui/en/config", cookie=come.cookie).status == 401


def test_the_page_speaks_the_readers_language(url: str) -> None:
    chinese = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}
    assert "请出示 API 密钥" in ask(url, "/ui/login", headers=chinese).body
    assert log_in(url, KEY, **chinese).headers["location"] == "/ui/zh/"
    assert "Show an API key" in ask(url, "/ui/login", headers={"accept-language": "fr"}).body


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://example.org"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
    ids=["other", "sandbox", "no address", "cross-site", "other port"],
)
def test_pages_of_other_sites_reach_nothing(url: str, headers: dict[str, str]) -> None:
    cookie = log_in(url, KEY).cookie
    assert log_in(url, KEY, **headers).status == 403
    got = ask(url, "/ui/en/gradio_api/queue/join", method="POST", cookie=cookie, body="{}", headers=headers)
    assert got.status == 403


def test_a_revoked_key_shuts_the_page(hall: Hall, url: str) -> None:
    made, secret = hall.ledger.keys.create("ann", ["infer"])
    until(lambda: log_in(url, secret).status == 303)
    cookie = log_in(url, secret).cookie
    assert ask(url, "/ui/en/config", cookie=cookie).status == 200
    hall.ledger.keys.revoke(made.id)
    until(lambda: ask(url, "/ui/en/config", cookie=cookie).status == 401)


def event(url: str, cookie: str, name: str, data: list[Any], tab: str) -> Any:
    """Send an event as Gradio's script does; what its handler gave, or None where it failed."""
    config = json.loads(ask(url, "/ui/en/config", cookie=cookie).body)
    found = next(one for one in config["dependencies"] if one["api_name"] == name)
    body = {"data": data, "fn_index": found["id"], "session_hash": tab, "event_data": None, "trigger_id": None}
    joined = ask(url, "/ui/en/gradio_api/queue/join", method="POST", cookie=cookie, body=json.dumps(body))
    assert joined.status == 200, joined
    told = ask(url, f"/ui/en/gradio_api/queue/data?session_hash={tab}", cookie=cookie)
    assert told.status == 200, told
    events = [json.loads(line[6:]) for line in told.body.splitlines() if line.startswith("data: {")]
    return next(one["output"] for one in events if one["msg"] == "process_completed").get("data")


def move(url: str, cookie: str, name: str, why: str, tab: str) -> str:
    """Ask for a move of the release, and confirm it; what is told."""
    event(url, cookie, "ask", [name, None, False], tab)
    return str(event(url, cookie, "act", [None, why], tab))


def test_scopes_hold_behind_the_page(hall: Hall, url: str) -> None:
    _, admin = hall.ledger.keys.create("boss", ["admin"])
    until(lambda: log_in(url, admin).status == 303)
    low, high = log_in(url, KEY).cookie, log_in(url, admin).cookie
    hall.ledger.promote(3, actor="test", why="to be taken back")
    refused = move(url, low, "rollback champion", "", "tab1")
    assert "lacks the scope" in refused
    assert "403" in refused
    assert hall.ledger.slots()["champion"].version == 3
    assert "lacks the scope" in str(event(url, high, "load", [], "tab2")), "an admin key asks no model"
    assert "lacks the scope" not in str(event(url, low, "load", [], "tab3"))
    unasked = str(event(url, high, "act", [["rollback champion", None, False], "not asked"], "tab4"))
    assert "Done" not in unasked, "what was not asked about is not done, whatever a browser sends"
    assert hall.ledger.slots()["champion"].version == 3
    done = move(url, high, "rollback champion", "tried", "tab4")
    assert "Done" in done
    assert hall.ledger.slots()["champion"].version == 1
    assert hall.ledger.events()[-1].actor == f"key {admin.split('_')[1]}"


def test_one_browser_does_not_hear_anothers_events(hall: Hall, url: str) -> None:
    mine, other = log_in(url, KEY).cookie, log_in(url, KEY).cookie
    event(url, mine, "load", [], "mine1")
    assert ask(url, "/ui/en/gradio_api/queue/data?session_hash=mine1", cookie=other).status == 403
    assert ask(url, "/ui/en/gradio_api/heartbeat/mine1", cookie=other).status == 403


def test_without_keys_only_this_machine_sees_it(tmp_path: Path, hall_at: Any) -> None:
    with paged(hall_at(tmp_path / "open")) as server:
        assert ask(server.url, "/ui/en/").status == 200
        for headers in ({"host": "example.org"}, {"origin": "https://example.org"}):
            assert ask(server.url, "/ui/en/", headers=headers).status == 403
        assert ask(server.url, "/ui/en/gradio_api/upload", method="POST").status == 404
        refused = move(server.url, "", "hold", "", "tab5")
        assert "needs a key with the scope" in refused


def test_who_logs_in_again_and_again_shuts_nobody_else_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_MOST_SESSIONS", 4)
    monkeypatch.setattr(door, "_MOST_TABS", 2)
    sessions = door.Sessions(KeyRing((KEY, "another-key")))
    mine = sessions.begin(KEY)
    assert mine is not None
    for _ in range(9):
        assert sessions.begin("another-key") is not None
    session = sessions.find({sessions.cookie: mine})
    assert session is not None
    for tab in ("one", "two", "three"):
        assert sessions.owns(session, tab)
    assert list(session.tabs) == ["two", "three"]


def test_where_the_admin_api_listens_apart_the_page_says_so(tmp_path: Path, hall_at: Any) -> None:
    hall = hall_at(tmp_path / "apart")
    with paged(hall, api_keys=(KEY,), admin_port=0) as server:
        cookie = log_in(server.url, KEY).cookie
        for language, told in (("en", "serve.admin_port"), ("zh", "独立端口")):
            config = ask(server.url, f"/ui/{language}/config", cookie=cookie).body
            parts = json.loads(config)["components"]
            said = [one["props"]["value"] for one in parts if told in str(one["props"].get("value"))]
            assert len(said) == 5, language
            assert "n-state" not in config
        assert "lacks the scope" not in str(event(server.url, cookie, "load", [], "tab6"))

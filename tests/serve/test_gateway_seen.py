"""What the server tells about itself: numbers, log lines, traces; and what must never be in them."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from gateway_kit import Hall, NamedEngine, chat, make_hall, send, serving, until
from scripted_engine import BREAK, REFUSE

from nacre.serve.gateway.logs import Formatter, logging_to_stderr, tell
from nacre.serve.gateway.metrics import Metrics

SECRET = "a-configured-key-4711"
CANARIES = ("canary-in-the-prompt", "canary-of-the-user", "canary-in-the-model", "canary-in-the-path", "canary-header")


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    NamedEngine.forget()
    made = make_hall(tmp_path / "assistant")
    yield made
    made.space.close()


@pytest.fixture
def admin(hall: Hall) -> str:
    return hall.ledger.keys.create("boss", ["admin", "infer", "feedback"])[1]


def _ask_everything(url: str, keys: tuple[str, ...]) -> list[int]:
    """Requests of all kinds, with words planted wherever a client can put one."""
    prompt, user, model, path, header = CANARIES
    headers = {"x-request-id": f"bad {header}", "x-custom": header}
    found = []
    for key in keys:
        for question in (prompt, f"{prompt} {BREAK}", BREAK, REFUSE):
            for stream in (False, True):
                asked = chat(url, question, key=key, user=user, stream=stream, headers=headers)
                found.append(asked.status)
        found.append(chat(url, prompt, key=key, model=f"bot@{model}").status)
        found.append(chat(url, prompt, key=key, temperature=prompt).status)
        found.append(send(url, f"/v1/{path}?{path}={path}", key=key).status)
        found.append(send(url, f"/v1/models/{path}", key=key).status)
        found.append(send(url, "/v1/feedback", {"response_id": path, "comment": prompt}, key=key).status)
        found.append(send(url, "/admin/release/start", {"version": prompt}, key=key).status)
    return found


def test_no_prompt_and_no_key_is_in_the_log(
    hall: Hall, admin: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError(f"who says {CANARIES[0]} and {SECRET}?")

    with logging_to_stderr("json", (SECRET,)), serving(hall, api_keys=(SECRET,)) as server:
        statuses = _ask_everything(
            server.url, (admin, SECRET, "wrong-key-canary", f"{admin[:-1]}{'01'[admin[-1] == '0']}")
        )
        monkeypatch.setattr("nacre.serve.service.Service.model_ids", broken)
        assert send(server.url, "/v1/models", key=SECRET).status == 500
        logging.getLogger("nacre.serve").warning("somebody sent %s and Bearer abc.def and %s", admin, SECRET)
    assert {200, 400, 401, 403, 404, 503} <= set(statuses)
    logged = capfd.readouterr().err
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    assert len(lines) == len(logged.splitlines()), "every line is JSON"
    assert sum(line["message"] == "request" for line in lines) == len(statuses) + 1
    answered = [line for line in lines if line["message"] == "answer"]
    assert {line["finish"] for line in answered} == {"stop", "error"}
    assert {line["key"] for line in answered} == {admin.split("_")[1], answered[-1]["key"]}
    [unexpected] = [line for line in lines if line.get("error") == "ValueError"]
    assert any("broken" in place for place in unexpected["at"])
    for planted in (*CANARIES, admin, admin.split("_")[2], SECRET, "wrong-key-canary", "abc.def", "torn"):
        assert planted not in logged, planted


def test_with_log_content_the_answer_is_there_unless_it_may_not_be_kept(
    hall: Hall, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr("json", ()), serving(hall, log_content=True) as server:
        chat(server.url, "what is kept")
        chat(server.url, "what is not", headers={"x-nacre-no-store": "1"})
    logged = capfd.readouterr().err
    assert '"answer":"1: what is kept"' in logged
    assert "what is not" not in logged


@pytest.mark.parametrize("style", ["text", "off"])
def test_as_text_there_is_a_line_for_what_is_amiss_alone(
    hall: Hall, style: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr(style, (SECRET,)), serving(hall) as server:
        chat(server.url)
        logging.getLogger("nacre.serve").warning("amiss\nwith %s", SECRET)
    logged = capfd.readouterr().err
    assert "/v1/chat" not in logged
    assert ("amiss\\nwith [key]" in logged) == (style == "text")


def test_a_key_is_hidden_wherever_it_stands() -> None:
    line = logging.LogRecord("n", logging.INFO, "f", 1, "a %s b", (f"nk_0123abcd_{'f' * 48}",), None)
    assert Formatter("text").format(line).endswith(" info a [key] b")


def test_the_numbers_add_up_and_their_labels_are_our_own(hall: Hall, admin: str) -> None:
    with serving(hall, api_keys=(SECRET,)) as server:
        _ask_everything(server.url, (admin, SECRET, "wrong-key-canary"))
        reply = send(server.url, "/metrics", key=admin)
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = reply.body.decode()
    for planted in (*CANARIES, admin.split("_")[2], SECRET):
        assert planted not in text
    routes = set(re.findall(r'nacre_requests_total\{route="([^"]*)"', text))
    assert routes <= {
        *("/v1/chat/completions", "/v1/models/{name}", "/v1/feedback", "/admin/release/{action}", "(none)")
    }
    assert 'nacre_requests_total{route="(none)",status="404"} 2.0' in text
    assert 'nacre_answers_total{arm="champion",finish="stop",version="1"} 8.0' in text
    assert 'nacre_slot_version{slot="champion"} 1.0' in text
    assert "nacre_canary_percent 0.0" in text
    assert 'nacre_shadow_dropped_total{why="full"} 0.0' in text
    assert "nacre_requests_running" in text


def test_a_label_has_at_most_so_many_values() -> None:
    metrics = Metrics()
    for number in range(5000):
        metrics.answer("champion", number, "stop", 0.1, (1, 1))
    assert metrics.text().count(b"nacre_answers_total{") == 201


def test_a_span_a_request_reaches_the_collector(hall: Hall) -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    Thread(target=collector.serve_forever, daemon=True).start()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    theirs = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "tracestate": "a=planted"}
    with serving(hall, otlp=endpoint) as server:
        asked = chat(server.url, CANARIES[0], headers=theirs)
    until(lambda: bool(received))
    collector.shutdown()
    collector.server_close()
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    told = ExportTraceServiceRequest.FromString(received[0])
    [span] = told.resource_spans[0].scope_spans[0].spans
    attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
    assert (span.name, span.trace_id.hex()) == ("POST /v1/chat/completions", trace)
    assert attributes["nacre.response_id"] == asked.body["id"]
    assert (attributes["http.response.status_code"], attributes["nacre.arm"]) == (200, "champion")
    assert span.end_time_unix_nano > span.start_time_unix_nano
    assert CANARIES[0].encode() not in b"".join(received)
    assert not span.trace_state
    assert b"planted" not in b"".join(received)


def test_lines_of_requests_come_in_order_and_are_all_there_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    def tells(count: int) -> None:
        for place in range(count):
            tell("request", {"place": place})

    async def asked() -> None:
        tell("request", {"place": "first"})
        logging.getLogger("nacre.serve").warning("between")
        others = [Thread(target=tells, args=(500,)) for _ in range(3)]
        for one in others:
            one.start()
        tells(500)
        for one in others:
            one.join()

    with logging_to_stderr("json", ()):
        asyncio.run(asked())
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [one.get("place", one["message"]) for one in lines[:2]] == ["first", "between"]
    assert len(lines) == 2 + 4 * 500

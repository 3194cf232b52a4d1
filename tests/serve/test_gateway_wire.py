"""Raw sockets: half a request, an endless head, a reader that does not read, and a thousand that say nothing."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from gateway_kit import NamedEngine, chat, serving
from scripted_engine import MADE

from nacre.records import Weights

NOWHERE = Weights(identity="5" * 64, model="/nowhere")
SHORT = {"header_s": 0.5, "body_s": 0.5, "write_s": 0.5, "idle_s": 1.0, "header_bytes": 4096}
LONG_ENOUGH_S = 30.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(NOWHERE, wire=SHORT) as server:
        yield server.url


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=LONG_ENOUGH_S)


def _rest(open_socket: socket.socket) -> bytes:
    """All that comes until the server closes."""
    got = b""
    try:
        while piece := open_socket.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    return got


def _drip(open_socket: socket.socket, piece: bytes) -> None:
    """Send it again and again until the server has closed."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < LONG_ENOUGH_S:
        try:
            open_socket.sendall(piece)
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the server goes on reading")


def _answer(raw: bytes) -> tuple[int, str]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def test_half_a_head_is_closed_in_time(url: str) -> None:
    with _connect(url) as one:
        one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert _answer(_rest(one)) == (408, "timeout")


def test_a_head_that_comes_letter_by_letter_is_closed_in_time(url: str) -> None:
    with _connect(url) as one:
        _drip(one, b"GET")


@pytest.mark.parametrize("start", [b"", b"\r\n"], ids=["nothing", "empty line"])
def test_a_connection_that_says_nothing_is_closed(url: str, start: bytes) -> None:
    with _connect(url) as one:
        one.sendall(start)
        got = _rest(one)
        assert got == b"" if not start else _answer(got) == (408, "timeout")


def test_half_a_body_is_answered_and_closed_in_time(url: str) -> None:
    with _connect(url) as one:
        one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert _answer(_rest(one)) == (408, "timeout")


def test_a_body_that_goes_on_after_the_answer_is_not_read_for_ever(url: str) -> None:
    with _connect(url) as one:
        one.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        _drip(one, b"x")


def test_an_idle_connection_between_two_requests_stays_for_its_time_and_is_closed(url: str) -> None:
    with _connect(url) as one:
        for _ in range(2):
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.6)  # longer than a head may take
        began_s = time.monotonic()
        assert _rest(one) == b""
        assert time.monotonic() - began_s < LONG_ENOUGH_S


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 6000,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 6000 + b"\r\n\r\n",
        b"GET /" + b"a" * 6000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
    ],
    ids=["endless", "long", "path", "many"],
)
def test_a_large_head_is_refused(url: str, head: bytes) -> None:
    with _connect(url) as one:
        one.sendall(head)
        assert _answer(_rest(one)) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/feedback HTTP/1.1\r\nHost: ::1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
    ],
    ids=["no http", "two lengths", "length and chunks", "bad chunk", "space before colon"],
)
def test_what_is_no_http_is_an_error_object_and_the_connection_closes(url: str, raw: bytes) -> None:
    with _connect(url) as one:
        one.sendall(raw)
        assert _answer(_rest(one)) == (400, "invalid_http")


def test_requests_behind_each_other_are_answered_in_order(url: str) -> None:
    body = json.dumps({"model": "bot", "messages": [{"role": "user", "content": "hi"}]}).encode()
    ask = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with _connect(url) as one:
        one.sendall(ask + body + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + ask + body)
        got = b""
        while got.count(b"HTTP/1.1 200") < 3 or got.count(b'"finish_reason"') < 2:
            piece = one.recv(65536)
            assert piece, got
            got += piece
        assert got.index(b'"status"') > got.index(b"finish_reason")


def test_a_client_that_does_not_read_is_given_up(url: str) -> None:
    """Its answer is far larger than what the kernels hold; it ends without any byte being read."""
    text = "x" * 3000
    asked = {"model": "bot", "messages": [{"role": "user", "content": text}], "stream": True, "n": 8, "logprobs": True}
    body = json.dumps(asked | {"top_logprobs": 2}).encode()
    engine = MADE[-1]
    before = engine.cancelled
    with _connect(url) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        began_s = time.monotonic()
        while engine.cancelled == before:
            assert time.monotonic() - began_s < LONG_ENOUGH_S, "the answer is kept for a client that does not read"
            time.sleep(0.05)


def test_a_thousand_idle_connections_do_no_harm() -> None:
    with serving(NOWHERE, wire=SHORT | {"header_s": 60.0}) as server, ExitStack() as held:
        idle = [held.enter_context(_connect(server.url)) for _ in range(1000)]
        for number in range(20):
            assert chat(server.url, f"q{number}").text == f"0: q{number}"
        idle[0].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle[0].recv(65536).startswith(b"HTTP/1.1 200")


def test_one_connection_too_many_is_closed_and_the_others_go_on() -> None:
    with serving(NOWHERE, wire=SHORT | {"header_s": 60.0, "connections": 5}) as server, ExitStack() as held:
        kept = [held.enter_context(_connect(server.url)) for _ in range(5)]
        time.sleep(0.2)
        with _connect(server.url) as more:
            assert _answer(_rest(more)) == (503, "overloaded")
        kept[0].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept[0].recv(65536).startswith(b"HTTP/1.1 200")


def test_one_request_too_many_is_told_to_come_again() -> None:
    with serving(NOWHERE, wire={"requests": 2}, drain_s=1) as server, ExitStack() as held:
        asked = {"model": "bot", "messages": [{"role": "user", "content": "for ever"}], "stream": True}
        body = json.dumps(asked).encode()
        NamedEngine.piece_s[0] = 3600.0
        try:
            for _ in range(2):
                one = held.enter_context(_connect(server.url))
                ask = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
                one.sendall(ask + body)
                assert one.recv(65536).startswith(b"HTTP/1.1 200")
            refused = chat(server.url)
            assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "overloaded", "1")
        finally:
            NamedEngine.forget()

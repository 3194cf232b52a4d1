"""Requests that no client library sends: smuggled, doubled and folded headers, deep and huge bodies."""

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from nacre.records import Weights
from nacre.serve.engines import ENGINES
from nacre.serve.run import background
from nacre.serve.settings import Serve

KEY = "raw-key"
GET = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
POST = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
BODY = json.dumps({"model": "bot", "messages": [{"role": "user", "content": "hello"}]})


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        weights = Weights(identity="5" * 64, model="/nowhere")
        with background(weights, Serve(port=0, name="bot", engine="scripted", api_keys=(KEY,))) as url:
            parts = urlsplit(url)
            yield parts.hostname or "", parts.port or 0


def _answers(address: tuple[str, int], sent: str) -> list[str]:
    """The status of each answer to these bytes, until the server closes the connection."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(sent.encode("latin-1"))
        said = b""
        while piece := connection.recv(65536):
            said += piece
    return re.findall(r"HTTP/1\.1 (\d+)", said.decode("latin-1"))


def test_a_plain_request_by_hand_is_answered(address: tuple[str, int]) -> None:
    assert _answers(address, f"{POST}Connection: close\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}") == ["200"]


@pytest.mark.parametrize(
    "smuggled",
    [
        f"{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{GET}\r\n",
        f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{GET}\r\n",
        f"{POST}Content-Length: 0\r\nContent-Length: {len(GET) + 2}\r\n\r\n{GET}\r\n",
        f"{POST}Content-Length: -1\r\n\r\n{GET}\r\n",
        f"{POST}Content-Length: 1e3\r\n\r\n{GET}\r\n",
        f"{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n{GET}\r\n",
        f"{POST}Content-Length : 0\r\n\r\n{GET}\r\n",
    ],
    ids=["cl-te", "te-cl", "two-lengths", "negative", "exponent", "bad-chunk", "space-before-colon"],
)
def test_a_smuggled_second_request_is_never_answered(address: tuple[str, int], smuggled: str) -> None:
    assert _answers(address, smuggled) == ["400"], "a second answer would be another client's"


@pytest.mark.parametrize("given", ["one\r\n two", "one\x0btwo", "x" * 300, "a b", "ünï", '"quoted"', ""])
def test_only_a_plain_request_id_is_given_back(address: tuple[str, int], given: str) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(f"{GET}X-Request-Id: {given}\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while piece := connection.recv(65536):
            said += piece
    head = said.partition(b"\r\n\r\n")[0].decode("latin-1")
    if " 400 " not in head.splitlines()[0]:
        assert re.search(r"(?mi)^x-request-id: req-[0-9a-f]{24}\r?$", head), head


def test_two_keys_in_one_request_open_nothing_more(address: tuple[str, int]) -> None:
    head = "GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    assert _answers(address, f"{head}Authorization: Bearer no\r\nAuthorization: Bearer {KEY}\r\n\r\n") == ["401"]
    assert _answers(address, f"{head}Authorization: Bearer {KEY} \r\n\r\n") == ["200"]
    assert _answers(address, f"{head}Authorization: Bearer\r\n\r\n") == ["401"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"a":' * 33 + "1" + "}" * 33, "400"),
        ("[" * 500_000, "400"),
        ('{"model": "bot", "messages": [' + ",".join(['{"role": 1}'] * 100_000) + "]}", "400"),
        (
            '{"model": "bot", "stop": ["' + "x" * 1_500_000 + '"], "messages": [{"role": "user", "content": "x"}]}',
            "400",
        ),
        ('{"model": "bot", "n": 1000000, "messages": [{"role": "user", "content": "x"}]}', "400"),
        ('{"model": "bot", "max_tokens": 1000000000, "messages": [{"role": "user", "content": "x"}]}', "400"),
        ('{"model": "bot", "temperature": NaN, "messages": [{"role": "user", "content": "x"}]}', "400"),
        ('{"model": "bot", "messages": [{"role": "user", "content": "\\ud800"}]}', "400"),
        ('{"model": "bot", "prompt": [' + "1," * 500_000 + "1]}", "400"),
        ('{"model": "bot", "messages": [' + ",".join(['{"role": "system", "content": ""}'] * 50_000) + "]}", "400"),
        ("x" * 2_200_000, "413"),
    ],
    ids=[
        "deep",
        "deeper",
        "many-errors",
        "long-stop",
        "n",
        "max-tokens",
        "nan",
        "surrogate",
        "wrong-route",
        "many-turns",
        "long",
    ],
)
def test_bodies_that_are_too_much_are_refused(address: tuple[str, int], body: str, status: str) -> None:
    sent = f"{POST}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    assert _answers(address, sent) == [status]

"""Bodies that cost more than they weigh: endless trailers, shapes of a thousand dimensions, addresses to fetch."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from gateway_kit import Reply, chat, send, serving

from nacre.records import Weights
from nacre.serve.gateway.errors import ApiError
from nacre.serve.grpc.inference_pb2 import ModelInferRequest
from nacre.serve.grpc.tensors import body_of

NOWHERE = Weights(identity="5" * 64, model="/nowhere")
KEY = "a-key-of-some-length"
CHUNKED = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
MOST_BYTES = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(NOWHERE, engine="scripted", api_keys=(KEY,), wire={"header_bytes": 4096}) as server:
        yield server.url


@pytest.fixture(scope="module", autouse=True)
def _scripted() -> Iterator[None]:
    from nacre.serve.engines import ENGINES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        yield


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def _taken(url: str, opening: str, piece: bytes) -> int:
    """How many bytes the server takes of a piece that is sent again and again, before it closes."""
    sent = 0
    with _connect(url) as one:
        one.sendall(opening.encode())
        while sent < MOST_BYTES:
            try:
                one.sendall(piece)
            except OSError:
                return sent
            sent += len(piece)
    return sent


@pytest.mark.parametrize("key", [KEY, "wrong"])
@pytest.mark.parametrize(
    ("opening", "piece"),
    [
        ("2\r\n{}\r\n0\r\n", (b"x: " + b"a" * 1000 + b"\r\n") * 50),
        ("2\r\n{}\r\n0\r\nx: ", b"a" * 50_000),
        ("2\r\n{}\r\n1;", b"a" * 50_000),
        ("", b"1;" + b"a" * 50_000),
    ],
    ids=["trailers", "one trailer", "chunk extension", "chunk extension first"],
)
def test_what_is_no_body_has_an_end(url: str, key: str, opening: str, piece: bytes) -> None:
    """uvicorn keeps trailers and never counts them: with and without a key, memory would grow at the line's speed."""
    head = f"{CHUNKED}Authorization: Bearer {key}\r\n\r\n"
    assert _taken(url, head + opening, piece) < MOST_BYTES
    assert chat(url, key=KEY).status == 200


def test_a_trailer_is_no_header(url: str) -> None:
    body = json.dumps({"model": "bot", "messages": [{"role": "user", "content": "hi"}]})
    with _connect(url) as one:
        one.sendall(f"{CHUNKED}Connection: close\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n".encode())
        one.sendall(f"Authorization: Bearer {KEY}\r\n\r\n".encode())
        got = b""
        while piece := one.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 401")


def test_a_whole_body_in_small_chunks_with_a_trailer_is_answered(url: str) -> None:
    body = json.dumps({"model": "bot", "messages": [{"role": "user", "content": "x" * 3000}]})
    with _connect(url) as one:
        one.sendall(f"{CHUNKED}Authorization: Bearer {KEY}\r\nConnection: close\r\n\r\n".encode())
        one.sendall("".join(f"1;a=b\r\n{letter}\r\n" for letter in body).encode())
        one.sendall(b"0\r\nx-checksum: 1\r\n\r\n")
        got = b""
        while piece := one.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 200"), got[:300]


def test_a_tensor_of_too_many_dimensions_is_refused_before_they_are_multiplied() -> None:
    request = ModelInferRequest(model_name="bot")
    tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[2**62] * 200_000)  # 1.8 MB, minutes of work
    tensor.contents.bytes_contents.append(b"x")
    with pytest.raises(ApiError, match="200000 dimensions") as caught:
        body_of(request, streamed=False)
    assert caught.value.status == 400
    assert len(caught.value.message) < 200


@pytest.fixture
def bait() -> Iterator[tuple[str, list[str]]]:
    """A server inside the network, and what was asked of it."""
    asked: list[str] = []

    class Bait(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Bait) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def _asks(url: str, where: str) -> Iterator[Reply]:
    """Requests with the address wherever a client may put one."""
    for kind in ("image_url", "input_audio", "file", "video_url"):
        part = {"type": kind, kind: {"url": f"{where}/{kind}", "file_id": f"{where}/file"}}
        yield send(
            url, "/v1/chat/completions", {"model": "bot", "messages": [{"role": "user", "content": [part]}]}, key=KEY
        )
    schema = {"name": "x", "schema": {"$ref": f"{where}/schema.json", "$schema": f"{where}/meta.json"}}
    yield chat(url, key=KEY, response_format={"type": "json_schema", "json_schema": schema})
    yield chat(url, key=KEY, model=f"{where}/model")
    yield chat(url, key=KEY, base_url=where, api_base=where, upstream=where, webhook=f"{where}/hook")
    yield chat(url, key=KEY, headers={"x-forwarded-host": where[7:], "host": where[7:], "forwarded": f"host={where}"})
    yield chat(url, key=KEY, tools=[{"type": "function", "function": {"name": "f", "parameters": {"$ref": where}}}])
    yield send(url, f"/v1/models/{where}", key=KEY)
    yield send(url, "/v1/feedback", {"response_id": where, "comment": where}, key=KEY)


def test_no_address_in_a_request_is_ever_asked(url: str, bait: tuple[str, list[str]]) -> None:
    where, asked = bait
    statuses = [reply.status for reply in _asks(url, where)]
    assert set(statuses) <= {200, 400, 404}
    assert statuses[:4] == [400] * 4
    assert asked == []
    assert send(where, "/alive", method="GET").status == 200  # it would have heard
    assert asked == ["/alive"]

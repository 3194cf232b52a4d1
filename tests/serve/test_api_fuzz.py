"""Whatever is sent, the parsers answer with a request or a 400, and the server never with a 500."""

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.records import Weights
from nacre.serve.api.chat import parse_chat
from nacre.serve.api.embeddings import EmbeddingRequest
from nacre.serve.api.openapi import document
from nacre.serve.api.parts import AnswerRequest, parsed
from nacre.serve.api.text import parse_completion
from nacre.serve.engines import ENGINES
from nacre.serve.gateway.errors import ApiError
from nacre.serve.run import background
from nacre.serve.settings import GenerationDefaults, Serve

QUICK = settings(max_examples=150, deadline=None, derandomize=True, database=None)

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CHAT: dict[str, Any] = {
    "model": "bot",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "20"},
    ],
    "max_tokens": 3,
    "max_completion_tokens": 2,
    "n": 2,
    "logit_bias": {"3": 1},
    "stop": ["a"],
    "seed": 1,
    "logprobs": True,
    "top_logprobs": 1,
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "stream": True,
    "stream_options": {"include_usage": True},
}
TEXT: dict[str, Any] = {"model": "bot", "prompt": ["a", "b"], "echo": True, "logprobs": 1, "max_tokens": 2, "n": 2}
VECTORS: dict[str, Any] = {"model": "bot", "input": [[1, 2], [3]], "encoding_format": "base64"}
FEEDBACK: dict[str, Any] = {"response_id": "chatcmpl-" + "0" * 24 + "-" + "0" * 32, "stars": 5, "comment": "good"}
BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": TEXT,
    "/v1/embeddings": VECTORS,
    "/v1/feedback": FEEDBACK,
}


def _places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*here, key))


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[place[0]] = _with(value[place[0]], place[1:], new)
    return changed


def _spoilt(valid: dict[str, Any], keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """The valid body with one to three places changed into anything, or keys added."""
    places = [place for place in _places(valid) if place]

    def spoil(changes: list[tuple[tuple[Any, ...], Any]], more: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = valid | more
        for place, new in changes:
            try:
                body = _with(body, place, new)
            except (LookupError, TypeError, ValueError):  # an earlier change took that place away
                continue
        return body

    changes = st.lists(st.tuples(st.sampled_from(places), JSON), min_size=1, max_size=3)
    return st.builds(spoil, changes, st.dictionaries(st.sampled_from(keys) | st.text(max_size=8), JSON, max_size=2))


def _keys(model: str) -> list[str]:
    return sorted(document()["components"]["schemas"][model]["properties"])


def _read(parse: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> Any:
    try:
        return parse(body)
    except ApiError as error:
        return error


def _uses(parse: Callable[[dict[str, Any]], AnswerRequest], body: dict[str, Any]) -> None:
    request = _read(parse, body)
    if isinstance(request, ApiError):
        assert request.status == 400
        assert request.message
        assert json.dumps(request.body()).encode()
        return
    assert request.questions()
    assert request.sampling(GenerationDefaults()).temperature <= 2
    assert set(dict(request.needs())) <= {"logprobs", "echo", "json", "tools", "penalties", "embeddings"}
    assert all(name.isascii() for name in request.ignored_names())


@QUICK
@given(_spoilt(CHAT, _keys("ChatRequest")) | st.dictionaries(st.sampled_from(_keys("ChatRequest")), JSON, max_size=6))
def test_any_chat_is_understood_or_refused(body: dict[str, Any]) -> None:
    _uses(parse_chat, body)


@QUICK
@given(_spoilt(TEXT, _keys("CompletionRequest")))
def test_any_completion_is_understood_or_refused(body: dict[str, Any]) -> None:
    _uses(parse_completion, body)


@QUICK
@given(_spoilt(VECTORS, _keys("EmbeddingRequest")))
def test_any_embedding_is_understood_or_refused(body: dict[str, Any]) -> None:
    request = _read(lambda given: parsed(EmbeddingRequest, given), body)
    assert request.status == 400 if isinstance(request, ApiError) else request.input


def test_the_unspoilt_bodies_are_understood() -> None:
    assert parse_chat(CHAT).sampling(GenerationDefaults()).max_tokens == 2
    assert len(parse_completion(TEXT).questions()) == 2


@pytest.fixture(scope="module")
def connection() -> Iterator[http.client.HTTPConnection]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        weights = Weights(identity="5" * 64, model="/nowhere")
        with background(weights, Serve(port=0, name="bot", engine="scripted")) as url:
            address = urlsplit(url)
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
            yield connection
            connection.close()


def _answered(connection: http.client.HTTPConnection, path: str, body: bytes) -> None:
    connection.request("POST", path, body, {"content-type": "application/json"})
    reply = connection.getresponse()
    said = reply.read()
    assert reply.status in (200, 400, 404), said
    assert reply.headers["x-request-id"]
    if reply.status != 200:
        error = json.loads(said)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert "Traceback" not in error["message"]
    elif "event-stream" in reply.headers["content-type"]:
        assert said.endswith(b"data: [DONE]\n\n")


@settings(QUICK, max_examples=60)
@given(path=st.sampled_from(sorted(BODIES)), body=st.binary(max_size=200))
def test_any_bytes_get_an_answer(connection: http.client.HTTPConnection, path: str, body: bytes) -> None:
    _answered(connection, path, body)


@settings(QUICK, max_examples=60)
@given(
    name=st.text(min_size=1, max_size=30)
    | st.sampled_from(["../../etc/passwd", "..", "bot@../7", "\x00", "con", "bot@1e9"])
)
def test_any_name_is_looked_up_and_never_a_path(connection: http.client.HTTPConnection, name: str) -> None:
    connection.request("GET", "/v1/models/" + quote(name, safe=""))
    reply = connection.getresponse()
    body = json.loads(reply.read())
    assert reply.status == (200 if name == "bot" else 404)
    if reply.status == 404:
        assert body["error"]["code"] in ("model_not_found", "not_found")
        assert "root:" not in json.dumps(body)


@pytest.mark.parametrize("path", sorted(BODIES))
def test_any_spoilt_body_gets_an_answer(connection: http.client.HTTPConnection, path: str) -> None:
    @settings(QUICK, max_examples=60)
    @given(_spoilt(BODIES[path], sorted(BODIES[path])))
    def send(body: dict[str, Any]) -> None:
        _answered(connection, path, json.dumps(body).encode())

    send()


SHORT = {"max_tokens": 2, "max_completion_tokens": 2, "n": 1}  # the model behind this one really computes


@pytest.mark.parametrize("path", sorted(set(BODIES) - {"/v1/feedback"}))
def test_any_spoilt_body_gets_an_answer_of_the_embedded_engine(folder_url: str, path: str) -> None:
    address = urlsplit(folder_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    plain = {key: value for key, value in BODIES[path].items() if key not in ("tools", "tool_choice")}
    if path == "/v1/chat/completions":
        plain |= {"messages": CHAT["messages"][:2], "top_k": 3, "min_p": 0.1, "presence_penalty": 1.0}

    @settings(QUICK, max_examples=40)
    @given(_spoilt(plain, sorted(plain)))
    def send(body: dict[str, Any]) -> None:
        _answered(connection, path, json.dumps(body | (SHORT if path != "/v1/embeddings" else {})).encode())

    send()
    connection.close()

"""What an upstream may do wrong, and what comes of it."""

import asyncio
import gzip
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from upstream_kit import DONE, GOOD, Asking, Fake, Reply, chunk, good, streams

from nacre.base.errors import InputError, NacreError
from nacre.records import Message, Weights
from nacre.serve.engines import (
    ChatPrompt,
    ContextTooLong,
    Delta,
    EngineError,
    Finish,
    Generation,
    Overloaded,
    Refused,
    Sampling,
    Target,
    TextPrompt,
)
from nacre.serve.engines.upstream.engine import UpstreamEngine
from nacre.serve.engines.upstream.settings import Upstream
from nacre.serve.gateway.errors import from_nacre
from nacre.serve.settings import Serve

PLAIN = Sampling()
HELLO = ChatPrompt((Message(role="user", content="hello"),))
WEIGHTS = Weights(identity="a" * 64, model="some/hub-name")
KEY = "sk-planted-canary-0123456789"


async def ready(engine: UpstreamEngine) -> Target:
    target = Target(1, WEIGHTS)
    await engine.load(target)
    return target


def engine_for(*urls: str, max_waiting: int = 64, **more: Any) -> UpstreamEngine:
    settings = {"urls": urls, "load_s": 5, "health_s": 60, "retry_share": 0.2} | more
    return UpstreamEngine(Serve(max_waiting=max_waiting, upstream=Upstream(**settings)))


async def read(generation: Generation) -> tuple[str, Finish]:
    text = ""
    while isinstance(piece := await generation.next(), Delta):
        text += piece.text
    return text, piece


def ask(reply: Reply, sampling: Sampling = PLAIN, prompt: Any = HELLO, **more: Any) -> tuple[str, Finish, Generation]:
    """One answer of an upstream that replies so."""

    async def main() -> tuple[str, Finish, Generation]:
        async with Fake(reply=reply).running() as fake:
            engine = engine_for(fake.url, **more)
            try:
                generation = await engine.generate(await ready(engine), prompt, sampling)
                text, finish = await asyncio.wait_for(read(generation), 20)
                return text, finish, generation
            finally:
                await engine.close()

    return asyncio.run(main())


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("stream", [True, False])
def test_a_good_answer(stream: bool) -> None:
    text, finish, generation = ask(good, Sampling(stream=stream))
    assert (text, finish) == ("Hello", Finish("stop", 7, cached_tokens=3 if stream else 0))
    assert generation.prompt_tokens == 5


def _whole(body: bytes, kind: str = "application/json", more: str = "") -> Reply:
    async def reply(asking: Asking) -> None:
        await asking.head(200, kind, f"content-length: {len(body)}\r\n{more}")
        await asking.send(body)

    return reply


BOMB = gzip.compress(b" " * 50_000_000)

BAD_CALLS: dict[str, Any] = {
    "no list": "f",
    "a list of texts": ["f"],
    "an index that would fill the memory": [{"index": 10**8, "function": {"name": "f"}}],
    "an index below zero": [{"index": -1, "function": {"name": "f"}}],
    "a text for an index": [{"index": "0", "function": {"name": "f"}}],
    "an object for the arguments": [{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}],
    "too many": [{"function": {"name": "f", "arguments": ""}}] * 200,
}


@pytest.mark.parametrize("fault", BAD_CALLS)
def test_tool_calls_of_another_shape_are_an_error(fault: str) -> None:
    said = {"tool_calls": BAD_CALLS[fault]}
    event = b"data: " + json.dumps({"choices": [{"delta": said}]}).encode() + b"\n\n"
    with pytest.raises(EngineError, match="shape"):
        ask(streams(event, chunk(None, "tool_calls"), DONE), retries=0)
    choice = {"index": 0, "message": {"content": None} | said, "finish_reason": "tool_calls"}
    with pytest.raises(EngineError, match="shape"):
        ask(_whole(json.dumps({"choices": [choice]}).encode()), Sampling(stream=False), retries=0)


BAD_STREAMS: dict[str, tuple[Reply, str]] = {
    "ends in the middle": (streams(chunk("Hel")), "broke off"),
    "ends within an event": (streams(chunk("Hel"), chunk("lo", "stop")[:40]), "broke off"),
    "says done without a reason": (streams(chunk("Hel"), DONE), "broke off"),
    "says nothing at all": (streams(), "broke off"),
    "is not JSON": (streams(chunk("Hel"), b"data: {oops\n\n"), "not JSON"),
    "is JSON of another shape": (streams(b'data: {"choices": [{"delta": 3}]}\n\n'), "shape"),
    "has a number for a text": (streams(b'data: {"choices": [{"delta": {"content": 3}}]}\n\n'), "shape"),
    "is a list": (streams(b"data: [1, 2]\n\n"), "shape"),
    "reports an error": (streams(chunk("Hel"), b'data: {"error": {"message": "out of memory"}}\n\n'), "out of memory"),
    "is HTML": (_whole(b"<html>login</html>", "text/html"), "no stream"),
    "is compressed": (_whole(BOMB, "text/event-stream", "content-encoding: gzip\r\n"), "compresses"),
    "has an endless event": (streams(b"data: " + b"x" * 3000), "more than 2048 bytes"),
    "has an endless event of lines": (streams(*[b"data: x\n" * 100] * 5), "more than 2048 bytes"),
}

BAD_ANSWERS: dict[str, tuple[Reply, str]] = {
    "is HTML": (_whole(b"<html>login</html>", "text/html"), "not JSON"),
    "is compressed": (_whole(BOMB, more="content-encoding: gzip\r\n"), "compresses"),
    "is a list": (_whole(b"[]"), "shape"),
    "has no choice": (_whole(b'{"choices": []}'), "shape"),
    "has no reason": (_whole(b'{"choices": [{"message": {"content": "x"}}]}'), "broke off"),
    "reports an error": (_whole(b'{"error": {"message": "out of memory"}}'), "out of memory"),
    "is too long": (_whole(b'{"x": "' + b"x" * 40_000 + b'"}'), "longer than 32768 bytes"),
    "is shorter than it said": (_whole(b"{}", more="content-length: 9\r\n"), "reached|broke off"),
}


@pytest.mark.parametrize("fault", BAD_STREAMS)
def test_a_broken_stream_is_an_error_and_never_an_answer(fault: str) -> None:
    reply, message = BAD_STREAMS[fault]
    with pytest.raises(EngineError, match=message):
        ask(reply, max_event_bytes=2048, retries=0)


@pytest.mark.parametrize("fault", BAD_ANSWERS)
def test_a_broken_whole_answer_is_an_error(fault: str) -> None:
    reply, message = BAD_ANSWERS[fault]
    with pytest.raises(EngineError, match=message):
        ask(reply, Sampling(stream=False), max_answer_bytes=32_768, retries=0)


def test_an_endless_stream_is_broken_off() -> None:
    async def endless(asking: Asking) -> None:
        await asking.head()
        while True:
            await asking.send(chunk("and on ") * 100)

    with pytest.raises(EngineError, match="longer than 1000000 bytes"):
        ask(endless, max_answer_bytes=1_000_000)


def test_an_answer_that_hangs_or_drips_is_broken_off() -> None:
    async def silent(asking: Asking) -> None:
        await asking.head()
        await asyncio.sleep(60)

    async def dripping(asking: Asking) -> None:
        await asking.head()
        await asking.send(chunk("Hel"))
        while True:
            await asking.send(b"data: "[:1])
            await asyncio.sleep(0.02)

    async def pinging(asking: Asking) -> None:
        await asking.head()
        while True:
            await asking.send(b": ping\n\n")
            await asyncio.sleep(0.02)

    async def never(asking: Asking) -> None:
        await asyncio.sleep(60)

    for reply in (silent, dripping, pinging, never):
        with pytest.raises(EngineError, match="too slow"):
            ask(reply, stall_s=0.2, first_s=0.2)
    for reply in (silent, never):
        with pytest.raises(EngineError, match="too slow"):
            ask(reply, Sampling(stream=False), answer_s=0.2)


def test_a_slow_but_living_stream_is_whole() -> None:
    text, finish, _ = ask(streams(*[GOOD[place : place + 7] for place in range(0, len(GOOD), 7)], pause_s=0.002))
    assert (text, finish) == ("Hello", Finish("stop", 7, cached_tokens=3))


def test_whatever_the_format_allows_is_understood() -> None:
    odd = b": a comment\r\n\r\nevent: message\r\nid: 3\r\nretry: 5\r\n" + chunk("珍珠母").replace(b"\n", b"\r\n")
    two_lines = b'data: {"choices": [{"delta":\ndata: {"content": "!"}}]}\n\n'
    carriage = chunk("?").replace(b"\n", b"\r")
    whole = odd + two_lines + carriage + chunk(None, "length") + b"data:[DONE]\n\n"
    for size in (1, 2, 3, 5, 1000):  # characters and line ends split over network reads
        text, finish, _ = ask(streams(*[whole[place : place + size] for place in range(0, len(whole), size)]))
        assert (text, finish.reason) == ("珍珠母!?", "length")
        assert finish.tokens == 3, "without usage the pieces are counted"


def test_an_end_without_done_or_usage_is_an_end() -> None:
    assert ask(streams(chunk("Hi", "stop")))[:2] == ("Hi", Finish("stop", 1))

    async def hanging(asking: Asking) -> None:
        await asking.head()
        await asking.send(chunk("Hi", "stop"))
        await asyncio.sleep(60)

    assert ask(hanging, stall_s=0.2)[:2] == ("Hi", Finish("stop", 1))


def test_logprobs_and_tool_calls_are_passed_on() -> None:
    top = [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}, {"token": "Ho", "logprob": -1.0, "bytes": None}]
    told = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": top}]}
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calling = b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode() + b"\n\n"
    pieces: list[Delta | Finish] = []

    async def main() -> None:
        reply = streams(chunk("Hi", logprobs=told) + calling + chunk(None, "tool_calls") + DONE)
        async with Fake(reply=reply).running() as fake:
            engine = engine_for(fake.url)
            generation = await engine.generate(await ready(engine), HELLO, Sampling(logprobs=2))
            while not pieces or isinstance(pieces[-1], Delta):
                pieces.append(await generation.next())
            await engine.close()
            assert fake.asked[0].body["top_logprobs"] == 2

    run(main)
    delta = pieces[0]
    assert isinstance(delta, Delta)
    assert delta.logprobs[0].top == (("Hi", b"Hi", -0.5), ("Ho", b"Ho", -1.0))
    assert delta.tool_calls == (call,)
    assert pieces[-1] == Finish("tool_calls", 2)


STATUSES: dict[int, tuple[Any, type[NacreError], str]] = {
    400: ({"error": {"message": "bad top_p"}}, InputError, "bad top_p"),
    401: ({"error": {"message": f"Incorrect API key provided: {KEY}"}}, EngineError, "refuses the server's key"),
    404: ({"detail": "nope"}, EngineError, "does not know"),
    413: ({"message": "too long"}, InputError, "too long"),
    409: ({"detail": [{"loc": 1}]}, InputError, "no reason"),
    422: ({"detail": [{"loc": ["body", "n"], "msg": "field required"}]}, InputError, "field required"),
    429: ({"error": {"message": f"slow down, {KEY}"}}, Overloaded, "slow down"),
    202: ({"accepted": True}, EngineError, "status 202"),
    302: ({}, EngineError, "redirects"),
    500: ("<html>", EngineError, "status 500"),
    503: ({"error": {"message": "busy"}}, Overloaded, "busy"),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", STATUSES)
def test_an_error_of_the_upstream_is_told_and_no_key_with_it(
    status: int, stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    body, kind, message = STATUSES[status]
    seen: list[str] = []

    async def reply(asking: Asking) -> None:
        seen.append(asking.headers["authorization"])
        await asking.json(body, status)

    with pytest.raises(kind, match=message) as caught:
        ask(reply, Sampling(stream=stream), api_key_env="UPSTREAM_KEY", retries=1)
    assert seen[0] == f"Bearer {KEY}"
    assert KEY not in str(caught.value) + caplog.text
    assert len(seen) == (2 if status in (429, 500, 503) else 1), "only what may succeed is tried again"


def test_where_no_usage_is_told_tokens_are_counted_by_their_bytes() -> None:
    choice = {"index": 0, "message": {"content": "x" * 400}, "finish_reason": "stop"}
    answer = json.dumps({"choices": [choice], "usage": None}).encode()
    prompt = ChatPrompt((Message(role="user", content="y" * 4000),))
    _, finish, generation = ask(_whole(answer), Sampling(stream=False), prompt)
    assert finish.tokens == 101
    assert 1000 <= generation.prompt_tokens < 1020
    _, finish, generation = ask(streams(chunk("Hel"), chunk("lo", "stop"), DONE), Sampling(), prompt)
    assert (finish.tokens, 1000 <= generation.prompt_tokens < 1020) == (2, True)
    _, _, generation = ask(streams(chunk("Hello", "stop"), DONE), Sampling(), TextPrompt((1, 2, 3)))
    assert generation.prompt_tokens == 3


@pytest.mark.parametrize(("told", "seconds"), [("7", 7), ("0", 1), ("86400", 300), ("tomorrow", 1), (None, 1)])
def test_how_long_to_wait_is_passed_on_within_bounds(told: str | None, seconds: int) -> None:
    async def reply(asking: Asking) -> None:
        more = "" if told is None else f"retry-after: {told}\r\n"
        await asking.head(429, "application/json", f"content-length: 2\r\n{more}")
        await asking.send(b"{}")

    with pytest.raises(Overloaded) as caught:
        ask(reply, retries=0)
    assert caught.value.retry_s == seconds
    refusal = from_nacre(caught.value)
    assert (refusal.status, refusal.headers) == (503, {"retry-after": str(seconds)})


def test_what_an_upstream_refuses_keeps_its_parameter_and_code() -> None:
    async def reply(asking: Asking) -> None:
        error = {"message": "no tools here", "param": "tools", "code": "unsupported_parameter"}
        await asking.json({"error": error}, 400)

    with pytest.raises(Refused, match="no tools here") as caught:
        ask(reply)
    assert (caught.value.where, from_nacre(caught.value).code) == ("tools", "unsupported_parameter")


def test_too_long_a_prompt_is_told_as_such() -> None:
    async def reply(asking: Asking) -> None:
        message = "This model's maximum context length is 2048 tokens"
        await asking.json({"error": {"message": message, "code": "context_length_exceeded"}}, 400)

    with pytest.raises(ContextTooLong, match="2048"):
        ask(reply)


def test_usage_is_asked_for_and_nothing_else_that_was_not_said() -> None:
    async def main() -> None:
        async with Fake().running() as fake:
            engine = engine_for(fake.url)
            await read(await engine.generate(await ready(engine), HELLO, Sampling()))
            await engine.close()
            assert fake.asked[0].headers["accept-encoding"] == "identity"
            assert fake.asked[0].body == {
                "model": "m",
                "messages": [{"role": "user", "content": "hello"}],
                "temperature": 1.0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }

    run(main)


def test_what_such_servers_do_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="top_k") as caught:
        ask(good, Sampling(top_k=5))
    assert caught.value.where == "top_k"


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        ({}, "no upstream"),
        ({"urls": ["ftp://x"]}, "no http"),
        ({"urls": ["http://u:secret@x/v1"]}, "password"),
        ({"urls": ["http://x/v1"], "api_key_env": "NACRE_NO_SUCH_KEY"}, "NACRE_NO_SUCH_KEY"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(upstream: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        UpstreamEngine(Serve(upstream=Upstream(**upstream)))
    assert "secret" not in str(caught.value)

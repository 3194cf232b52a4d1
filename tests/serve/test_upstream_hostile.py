"""Answers that are JSON of OpenAI's shape but for one place: an error or an answer, never a crash or endless memory."""

import json
from typing import Any

import orjson
import pytest
from test_upstream_faults import HELLO, ask, engine_for, ready, run
from upstream_kit import DONE, Asking, Fake, chunk, good, streams

from nacre.base.errors import NacreError
from nacre.serve.api.shapes import ChatShape, Choice, TextShape
from nacre.serve.engines import Delta, EngineError, Sampling, TextPrompt
from nacre.serve.engines.upstream.answers import Reading
from nacre.serve.engines.upstream.engine import _embeddings
from nacre.serve.engines.upstream.errors import refused
from nacre.serve.engines.upstream.replica import _cards


def event(**choice: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": {}} | choice]}).encode()


def calling(*calls: Any) -> bytes:
    return event(delta={"tool_calls": list(calls)})


def answer(finish_reason: Any = "stop", logprobs: Any = None, usage: Any = None, **message: Any) -> bytes:
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def call(name: str | None = "f", arguments: str | None = "{}", **more: Any) -> dict[str, Any]:
    return {"id": "c", "function": {"name": name, "arguments": arguments}, **more}


def collected(*pieces: Delta | None) -> list[Any]:
    """The calls that a client gets from a whole answer."""
    choice = Choice(0)
    for piece in pieces:
        assert piece is not None
        choice.add(piece)
    return [(each["function"]["name"], each["function"]["arguments"]) for each in choice.tool_calls]


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


STRANGE_INDEXES = [-1, 128, 10**9, 2**63, 10**30, True, 0.0, 1.5, "0", [0], {}]


@pytest.mark.parametrize("index", STRANGE_INDEXES, ids=repr)
def test_an_index_that_is_no_small_number_is_an_error(index: Any) -> None:
    with pytest.raises(EngineError, match="shape"):
        Reading(True).events([calling(call(index=index))])
    with pytest.raises(EngineError, match="shape"):
        Reading(True).whole(answer("tool_calls", tool_calls=[call(index=index)]))


def test_calls_without_an_index_are_numbered_as_they_come() -> None:
    for none in ({}, {"index": None}):
        reading = Reading(True)
        pieces = [
            reading.events([calling(call("f", '{"a"', **none))]),
            reading.events([calling({"function": {"arguments": ": 1}"}} | none)]),  # of the call that has begun
            reading.events([calling(call("g", **none), call("h", **none))]),
        ]
        assert collected(*pieces) == [("f", '{"a": 1}'), ("g", "{}"), ("h", "{}")]
        assert [part["index"] for piece in pieces if piece for part in piece.tool_calls] == [0, 0, 1, 2]
        whole = Reading(True).whole(answer("tool_calls", tool_calls=[call("f", **none), call("g", **none)]))
        assert collected(whole) == [("f", "{}"), ("g", "{}")]
        assert [part["index"] for part in whole.tool_calls] == [0, 1]


def test_calls_of_a_whole_answer_stay_apart_whatever_their_index() -> None:
    whole = Reading(True).whole(answer("tool_calls", tool_calls=[call("f", index=0), call("g", index=0)]))
    assert collected(whole) == [("f", "{}"), ("g", "{}")]


def test_a_null_index_reaches_the_client_as_a_call() -> None:
    told = b"data: " + calling(call(index=None)) + b"\n\n"
    assert ask(streams(told, chunk(None, "tool_calls"), DONE), retries=0)[1].reason == "tool_calls"
    choice = Choice(0)
    choice.add(Delta("", tool_calls=({"index": None, "function": {"name": "f"}},)))  # of another engine
    assert choice.tool_calls[0]["function"]["name"] == "f"


def test_calls_without_end_are_an_error_though_each_event_has_few() -> None:
    reading = Reading(True)
    for _ in range(128):
        reading.events([calling(call())])
    with pytest.raises(EngineError, match="shape"):
        reading.events([calling(call())])
    assert len(Reading(True).whole(answer("tool_calls", tool_calls=[call()] * 128)).tool_calls) == 128


def test_a_call_nested_deeper_than_can_be_written_is_an_error_and_small_extras_pass() -> None:
    with pytest.raises(EngineError, match="shape"):
        Reading(True).events([calling(call(extra=deep(300)))])
    extra = {"google": {"thought_signature": "abc"}}
    piece = Reading(True).events([calling(call(index=0, extra_content=extra))])
    assert piece is not None
    assert piece.tool_calls[0]["extra_content"] == extra


LONG = "x" * 40_000


def test_reasoning_and_calls_count_where_no_usage_is_told() -> None:
    for said in (
        {"content": LONG},
        {"content": None, "reasoning_content": LONG},
        {"content": None, "tool_calls": [call("f", LONG)]},
        {"content": None, "tool_calls": [call(LONG, "")]},
    ):
        whole = Reading(True)
        whole.whole(answer(**said))
        assert 10_000 <= whole.tokens <= 10_002
    for delta in ({"content": LONG}, {"reasoning": LONG}, {"tool_calls": [call("f", LONG)]}):
        stream = Reading(True)
        stream.events([event(delta=delta)])
        stream.events([event(delta=delta)])
        assert 20_000 <= stream.tokens <= 20_002
    text = Reading(False)
    text.events([json.dumps({"choices": [{"text": "珍" * 4000}]}).encode()])
    assert text.tokens == 3000


def test_pieces_count_where_they_are_more_than_their_bytes() -> None:
    reading = Reading(True)
    for _ in range(5):
        reading.events([event(delta={"content": "a"}), event(delta={"reasoning": "b"}), calling(call(None, "{"))])
    assert reading.tokens == 15


STRANGE_USAGES: list[Any] = [
    {"prompt_tokens": value, "completion_tokens": value, "prompt_tokens_details": {"cached_tokens": value}}
    for value in ("9", -9, True, 1.5, None, [], 2**63, 2**64 - 1, 10**30)
]


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens_details": None}, *STRANGE_USAGES], ids=repr)
def test_a_usage_that_cannot_be_is_none(usage: Any) -> None:
    whole, stream = Reading(True), Reading(True)
    whole.whole(answer(content="x" * 40, usage=usage))
    stream.events([event(delta={"content": "x" * 40}, finish_reason="stop")])
    stream.events([json.dumps({"choices": [], "usage": usage}).encode()])
    for reading, tokens in ((whole, 11), (stream, 10)):
        assert (reading.finish().tokens, reading.finish().cached_tokens, reading.prompt_tokens) == (tokens, 0, 0)


def test_tools_and_the_inputs_of_embeddings_count_where_no_usage_is_told() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "y" * 4000}}
    prompt = type(HELLO)(HELLO.messages, tools=(tool,))
    _, _, generation = ask(streams(chunk("Hi", "stop"), DONE), Sampling(), prompt)
    assert 1000 <= generation.prompt_tokens < 1050

    async def embeds(asking: Asking) -> None:
        rows = [{"index": place, "embedding": [1.0]} for place in range(len(asking.body["input"]))]
        await asking.json({"data": rows, "usage": {"prompt_tokens": -5}})

    class Embedding(Fake):
        async def answer(self, asking: Asking) -> None:
            await (embeds if asking.path.endswith("embeddings") else super().answer)(asking)

    async def main() -> None:
        async with Embedding().running() as fake:
            engine = engine_for(fake.url)
            made = await engine.embed(await ready(engine), [TextPrompt("z" * 400), TextPrompt((1, 2, 3))])
            await engine.close()
            assert 103 <= made.tokens <= 105

    run(main)


TOKEN = {"token": "a", "logprob": -1.0, "bytes": [97]}
BAD_TOKENS: dict[str, Any] = {
    "a number for the bytes, which would be that many": TOKEN | {"bytes": 10**12},
    "a number for the bytes that is none of C's": TOKEN | {"bytes": 2**63},
    "bytes that are none": TOKEN | {"bytes": [256]},
    "an object for the token": TOKEN | {"token": {"a": 1}},
    "a list for a likely token": TOKEN | {"top_logprobs": [TOKEN | {"token": deep(300)}]},
    "a text for the number": TOKEN | {"logprob": "nan"},
    "no number": TOKEN | {"logprob": None},
    "a text": "a",
}


@pytest.mark.parametrize("fault", BAD_TOKENS)
def test_log_probabilities_of_another_shape_are_an_error(fault: str) -> None:
    told = {"content": [BAD_TOKENS[fault]]}
    with pytest.raises(EngineError, match="shape"):
        Reading(True).events([event(delta={"content": "a"}, logprobs=told)])
    with pytest.raises(EngineError, match="shape"):
        Reading(True).whole(answer(content="a", logprobs=told))


@pytest.mark.parametrize(
    "told",
    [
        {"tokens": ["a"]},
        {"tokens": [1], "token_logprobs": [-1.0]},
        {"tokens": ["a"], "token_logprobs": ["nan"]},
        {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"b": None}]},
        {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [["b"]]},
        {"tokens": ["a", "b"], "token_logprobs": [-1.0]},
    ],
    ids=repr,
)
def test_log_probabilities_of_completions_of_another_shape_are_an_error(told: Any) -> None:
    with pytest.raises(EngineError, match="shape"):
        Reading(False).events([json.dumps({"choices": [{"text": "a", "logprobs": told}]}).encode()])


STRANGE: list[Any] = [None, True, 3, -1.5, 2**63, "", "text", [], [1], ["a"], [[]], [{}], {}, {"a": None}, deep(300)]
PLACES = ("choices", "choice", "delta", "content", "refusal", "reasoning", "tool_calls", "call", "function", "name")
MORE_PLACES = ("id", "type", "finish_reason", "logprobs", "tokens", "top_logprobs", "usage", "details", "error")


def planted(part: str, place: str, value: Any) -> bytes:
    """An event or an answer that has `value` at one place."""
    function = {"name": "f", "arguments": "{}"} | ({"name": value} if place == "name" else {})
    one = {"index": 0, "id": "c", "type": "function", "function": function}
    one |= {place: value} if place in ("function", "id", "type") else {}
    said: dict[str, Any] = {"content": "a", "tool_calls": [value if place == "call" else one]}
    said |= {place: value} if place in ("content", "refusal", "reasoning", "tool_calls") else {}
    token = TOKEN | ({place: value} if place == "top_logprobs" else {})
    logprobs = {"content": value if place == "tokens" else [token]}
    choice = {part: value if place == "delta" else said, "logprobs": logprobs, "finish_reason": "stop", "text": "a"}
    choice |= {place: value} if place in ("finish_reason", "logprobs") else {}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": value if place == "details" else {}}
    whole: dict[str, Any] = {"choices": [value if place == "choice" else choice], "usage": usage}
    return json.dumps(whole | ({place: value} if place in ("choices", "usage", "error") else {})).encode()


@pytest.mark.parametrize("place", PLACES + MORE_PLACES)
def test_whatever_stands_at_a_place_is_an_answer_or_an_error(place: str) -> None:
    for value in STRANGE:
        for chat in (True, False):
            for part in ("delta", "message"):
                choice = Choice(0)
                try:
                    reading, data = Reading(chat), planted(part, place, value)
                    piece = reading.events([data]) if part == "delta" else reading.whole(data)
                    reading.finish()
                except NacreError:
                    continue
                shape = ChatShape() if chat else TextShape()
                if piece is not None:
                    choice.add(piece)
                    orjson.dumps(shape.piece(choice, piece, with_logprobs=True))
                orjson.dumps(shape.answer(choice, with_logprobs=True))


def test_an_error_that_is_null_is_none() -> None:
    reading = Reading(True)
    assert reading.events([b'{"choices": [], "error": null, "usage": {"completion_tokens": 3}}']) is None
    assert reading.tokens == 3


def test_an_unknown_reason_is_told_once_and_not_with_every_event(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading(True)
    for _ in range(50):
        reading.events([event(finish_reason="odd")] * 50)
    assert (reading.finish().reason, len(caplog.records)) == ("stop", 1)


@pytest.mark.parametrize("tokens", [-5, 2**63, 10**30, "x", "5", [], 1.5, True, None])
def test_embeddings_cost_no_less_than_nothing(tokens: Any) -> None:
    body = json.dumps({"data": [{"index": 0, "embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": tokens}})
    assert _embeddings(body.encode(), 1).tokens == 0


@pytest.mark.parametrize("card", [{"id": ["m"]}, {"id": {"a": 1}}, {"id": 7}, [], "m", None, {}], ids=repr)
def test_a_list_of_models_of_another_shape_is_an_error(card: Any) -> None:
    with pytest.raises(EngineError, match="models"):
        _cards(json.dumps({"data": [{"id": "m"}, card]}).encode())


def test_a_model_that_was_loaded_from_no_text_may_be_ours() -> None:
    assert _cards(b'{"data": [{"id": "m", "root": 7, "parent": []}]}')["m"].root is None
    assert ask(good, retries=0)[0] == "Hello"


@pytest.mark.parametrize("status", [204, 302, 400, 409, 413, 422, 429, 500])
def test_a_list_of_models_that_is_refused_ends_no_watch(status: int) -> None:
    refuses = False

    class Refusing(Fake):
        async def answer(self, asking: Asking) -> None:
            if refuses and asking.path == "/v1/models":
                await asking.json({"error": {"message": "no"}}, status)
            else:
                await super().answer(asking)

    async def main() -> None:
        nonlocal refuses
        async with Refusing().running() as fake:
            engine = engine_for(fake.url)
            await ready(engine)
            (replica,) = engine._pool.replicas
            refuses = True
            await replica.look()
            assert not replica.alive
            refuses = False
            await replica.look()
            assert replica.alive
            await engine.close()

    run(main)


BODIES: list[Any] = [*STRANGE, *({key: value} for key in ("error", "message", "detail") for value in STRANGE)]


@pytest.mark.parametrize("status", [201, 302, 400, 404, 422, 429, 500])
def test_a_refusal_of_any_shape_is_told(status: int) -> None:
    for body in [*BODIES, *({"error": {key: value}} for key in ("message", "code", "param") for value in STRANGE)]:
        assert refused(status, json.dumps(body).encode(), "x").error.what
    assert refused(status, b"\xff<html>", None).error.what

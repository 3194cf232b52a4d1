"""The API over an engine that can do everything and fails on demand: forms, faults, and what reaches the engine."""

import base64
import http.client
import json
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from scripted_engine import BREAK, HANG, MADE, REFUSE, ScriptedEngine, ScriptedGeneration
from serving_kit import Connect, Place, ask, kept, text_of

from nacre.records import Weights
from nacre.serve.api.replies import ChatReply, EmbeddingsReply, TextReply
from nacre.serve.engines import ENGINES, ChatPrompt, JsonFormat
from nacre.serve.run import background
from nacre.serve.settings import GenerationDefaults, Serve

NOWHERE = Weights(identity="5" * 64, model="/nowhere")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module", autouse=True)
def scripted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        yield


@pytest.fixture(scope="module")
def url(scripted: None) -> Iterator[str]:
    with background(NOWHERE, Serve(port=0, name="bot", engine="scripted", max_choices=4, max_waiting=8)) as url:
        yield url


@pytest.fixture
def client(url: str, connect: Connect) -> openai.OpenAI:
    return connect(url)


def _engine() -> ScriptedEngine:
    return MADE[-1]


def _post(url: str, path: str, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"content-type": "application/json"} | headers
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply), dict(reply.headers.items())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers.items())


def test_every_parameter_reaches_the_engine(client: openai.OpenAI) -> None:
    ask(
        client,
        temperature=0.7,
        top_p=0.9,
        seed=5,
        stop=["a", "b"],
        max_tokens=7,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"17": 3},
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
    )
    _, drawn = _engine().seen[-1]
    assert (drawn.temperature, drawn.top_p, drawn.seed, drawn.stop) == (0.7, 0.9, 5, ("a", "b"))
    assert (drawn.presence_penalty, drawn.frequency_penalty, drawn.logit_bias) == (0.5, -0.5, {17: 3})
    assert (drawn.top_k, drawn.min_p, drawn.repetition_penalty) == (5, 0.1, 1.1)
    assert (drawn.max_tokens, drawn.logprobs, drawn.format) == (7, 2, JsonFormat({"type": "object"}))


def test_the_choices_of_one_seed_differ_and_repeat(client: openai.OpenAI) -> None:
    first = ask(client, "hello", n=3, seed=7)
    texts = [choice.message.content for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert texts[0] == text_of(ask(client, "hello", seed=7)) == "7 hello"
    assert len(set(texts)) == 3
    assert [choice.message.content for choice in ask(client, "hello", n=3, seed=7).choices] == texts
    assert first.usage is not None
    assert first.usage.prompt_tokens == len("hello")
    assert first.usage.completion_tokens == sum(len(text or "") for text in texts)


def test_streamed_choices_come_interleaved_under_one_id(client: openai.OpenAI) -> None:
    chunks = list(ask(client, "hello", n=3, seed=7, stream=True, stream_options={"include_usage": True}))
    assert [chunk.choices[0].delta.role for chunk in chunks[:3]] == ["assistant"] * 3
    assert len({chunk.id for chunk in chunks}) == 1
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    texts = ["".join(choice.delta.content or "" for choice in said if choice.index == index) for index in range(3)]
    assert texts == [choice.message.content for choice in ask(client, "hello", n=3, seed=7).choices]
    order = [choice.index for choice in said]
    assert order != sorted(order), "the choices must not wait for each other"
    assert sorted(choice.index for choice in said if choice.finish_reason) == [0, 1, 2]
    assert chunks[-1].usage == ask(client, "hello", n=3, seed=7).usage


def test_more_answers_than_may_be_are_refused_before_the_engine_sees_any(client: openai.OpenAI) -> None:
    seen = len(_engine().seen)
    for options in ({"n": 5}, {"n": 10**6}):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, **options)
        assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="bot", prompt=["x"] * 3, n=3)
    assert caught.value.param == "prompt"
    assert len(_engine().seen) == seen


def test_one_refused_choice_cancels_the_others(client: openai.OpenAI) -> None:
    cancelled = _engine().cancelled
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="bot", prompt=["short", "long" * 2000])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    assert _engine().cancelled == cancelled + 1
    assert _engine().running == 0


def test_log_probabilities_of_a_chat(client: openai.OpenAI) -> None:
    answer = ask(client, "你好", logprobs=True, top_logprobs=2)
    assert answer.choices[0].logprobs is not None
    first = answer.choices[0].logprobs.content[0]
    assert (first.token, first.logprob, first.bytes) == ("你", -0.5, list("你".encode()))
    assert [likely.logprob for likely in first.top_logprobs] == [-9999.0, -2.0], "JSON has no minus infinity"
    assert ask(client, "你好").choices[0].logprobs is None
    chunks = [chunk.choices[0] for chunk in ask(client, "你好", logprobs=True, stream=True)]
    told = [token.token for choice in chunks if choice.logprobs for token in choice.logprobs.content]
    assert told == ["你", "好"]


def test_log_probabilities_of_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="bot", prompt="你好 a", echo=True, logprobs=2, max_tokens=2)
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == "你好 a你好"
    assert told is not None
    assert told.tokens == ["你", "好", " ", "a", "你", "好"]
    assert told.token_logprobs == [None, *[-0.5] * 5]
    assert told.text_offset == [0, 1, 2, 3, 4, 5]
    assert told.top_logprobs[0] is None
    assert told.top_logprobs[1] == {"x": -9999.0, "bytes:\\xe7": -2.0, "好": -0.5}
    streamed = client.completions.create(model="bot", prompt="你好 a", echo=True, logprobs=2, max_tokens=2, stream=True)
    parts = [chunk.choices[0].logprobs for chunk in streamed]
    assert [place for part in parts if part for place in part.text_offset] == told.text_offset


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [("abc", ["abc"]), (["a", "bc"], ["a", "bc"]), ([1, 2], ['!"']), ([[1], [2, 3]], ["!", '"#'])],
)
def test_prompts_of_every_kind(client: openai.OpenAI, prompt: Any, texts: list[str]) -> None:
    answer = client.completions.create(model="bot", prompt=prompt)
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert [choice.text for choice in answer.choices] == texts
    chunks = list(client.completions.create(model="bot", prompt=prompt, stream=True))
    said = [chunk.choices[0] for chunk in chunks]
    assert ["".join(one.text for one in said if one.index == place) for place in range(len(texts))] == texts


def test_n_and_several_prompts_are_numbered_prompt_by_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="bot", prompt=["a", "b"], n=2, seed=3, max_tokens=40)
    assert [choice.text[-1] for choice in answer.choices] == ["a", "a", "b", "b"]
    assert answer.choices[0].text == "3 a"
    assert answer.choices[2].text == "3 b", "a prompt is answered alike alone and beside others"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


def test_a_completion_has_sixteen_tokens_unless_told(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="bot", prompt="x" * 40)
    assert (len(answer.choices[0].text), answer.choices[0].finish_reason) == (16, "length")
    scored = client.completions.create(model="bot", prompt="abc", max_tokens=0, echo=True, logprobs=1)
    assert scored.choices[0].text == "abc"


def test_tools_pass_through(client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "user", "content": "warm?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call-0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call-0", "content": "20"},
    ]
    answer = client.chat.completions.create(model="bot", messages=messages, tools=[TOOL], tool_choice="auto")
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    call = answer.choices[0].message.tool_calls[0]
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("call-1", "weather", {"city": "上海"})
    prompt, _ = _engine().seen[-1]
    assert isinstance(prompt, ChatPrompt)
    assert list(prompt.turns) == messages
    assert [dict(tool) for tool in prompt.tools] == [TOOL]
    assert prompt.tool_choice == "auto"
    assert [message.role for message in prompt.messages] == ["user", "function", "observation"]
    with client.chat.completions.stream(model="bot", messages=messages, tools=[TOOL]) as stream:
        whole = stream.get_final_completion()
    assert whole.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    assert (
        text_of(client.chat.completions.create(model="bot", messages=messages, tools=[TOOL], tool_choice="none"))
        == "20"
    )


def test_vectors_as_numbers_and_as_base64(client: openai.OpenAI, url: str) -> None:
    answer = client.embeddings.create(model="bot", input=["a", "bc"])  # the client asks for base64 by itself
    assert [item.embedding for item in answer.data] == [[1.0, 0.0, -0.5]] * 2
    assert answer.usage.prompt_tokens == 3
    _, body, _ = _post(url, "/v1/embeddings", {"model": "bot", "input": "a"})
    assert EmbeddingsReply.model_validate(body).data[0].embedding == [1.0, 0.0, -0.5]
    _, body, _ = _post(url, "/v1/embeddings", {"model": "bot", "input": [[1, 2]], "encoding_format": "base64"})
    assert struct.unpack("<3f", base64.b64decode(body["data"][0]["embedding"])) == (1.0, 0.0, -0.5)
    code, body, headers = _post(url, "/v1/embeddings", {"model": "bot", "input": "a", "dimensions": 2})
    assert (code, body["error"]["param"]) == (400, "dimensions")
    assert headers["x-request-id"]


def test_answers_have_the_documented_form(url: str) -> None:
    messages = [{"role": "user", "content": "hello"}]
    _, body, _ = _post(url, "/v1/chat/completions", {"model": "bot", "messages": messages, "logprobs": True, "n": 2})
    assert len(ChatReply.model_validate(body).choices) == 2
    _, body, _ = _post(url, "/v1/chat/completions", {"model": "bot", "messages": messages, "tools": [TOOL]})
    assert ChatReply.model_validate(body).choices[0].message.tool_calls
    _, body, _ = _post(url, "/v1/completions", {"model": "bot", "prompt": "a", "logprobs": 2, "echo": True})
    assert TextReply.model_validate(body).choices[0].text == "aa"


def test_an_engine_that_breaks_ends_the_stream_with_an_error_event(client: openai.OpenAI, url: str) -> None:
    said = []
    with pytest.raises(openai.APIError, match="the engine broke") as caught:
        said += [chunk.choices[0].delta.content for chunk in ask(client, BREAK, stream=True, n=2)]
    assert "Traceback" not in str(caught.value)
    status, body, headers = _post(
        url, "/v1/chat/completions", {"model": "bot", "messages": [{"role": "user", "content": BREAK}]}
    )
    assert (status, body["error"]["type"]) == (503, "server_error")
    assert int({key.lower(): value for key, value in headers.items()}["retry-after"]) >= 1
    assert _engine().running == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_client_that_leaves_stops_every_choice(url: str, path: str, stream: bool) -> None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    body = {"model": "bot", "n": 3, "stream": stream}
    body |= {"messages": [{"role": "user", "content": HANG}]} if "chat" in path else {"prompt": HANG}
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    _until(lambda: _engine().running == 3)
    connection.close()
    _until(lambda: _engine().running == 0)


def test_a_stream_that_waits_gives_signs_of_life(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nacre.serve.api.completion._PING_S", 0.05)
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    body = {"model": "bot", "stream": True, "messages": [{"role": "user", "content": HANG}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    seen = b""
    while seen.count(b": ping\n\n") < 2:
        seen += connection.sock.recv(65536)
    connection.close()
    _until(lambda: _engine().running == 0)


def test_unknown_keys_are_refused_where_the_operator_is_strict(connect: Connect) -> None:
    with background(NOWHERE, Serve(port=0, name="bot", engine="scripted", strict=True)) as url:
        client = connect(url)
        for create in (
            lambda **extra: ask(client, extra_body=extra),
            lambda **extra: client.completions.create(model="bot", prompt="x", extra_body=extra),
            lambda **extra: client.embeddings.create(model="bot", input="x", extra_body=extra),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                create(mystery=1)
            assert (caught.value.code, caught.value.param) == ("unknown_parameter", "mystery")
            create()


def test_defaults_hold_where_a_request_says_nothing(connect: Connect, tmp_path: Any) -> None:
    own = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_new_tokens": 5, "min_p": 7, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    weights = Weights(identity="6" * 64, model=str(tmp_path))
    settings = Serve(port=0, name="bot", engine="scripted", defaults=GenerationDefaults(top_p=0.5))
    with background(weights, settings) as url:
        client = connect(url)
        assert text_of(ask(client, "0123456789", temperature=None)) == "01234"
        drawn = _engine().seen[-1][1]
        assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.min_p) == (0.6, 0.5, 20, 0.0)
        ask(client, temperature=0, top_p=1, max_completion_tokens=9, extra_body={"top_k": 0})
        drawn = _engine().seen[-1][1]
        assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.max_tokens) == (0, 1, 0, 9)
        told = client.models.retrieve("bot").model_extra
        assert told["defaults"] == {"temperature": 0.6, "top_p": 0.5, "top_k": 20, "max_tokens": 5}


def test_a_default_length_never_makes_a_prompt_too_long(connect: Connect, tmp_path: Any) -> None:
    (tmp_path / "generation_config.json").write_text('{"max_new_tokens": 4000}')
    with background(
        Weights(identity="7" * 64, model=str(tmp_path)), Serve(port=0, name="bot", engine="scripted")
    ) as url:
        assert len(text_of(ask(connect(url), "x" * 500))) == 500


def test_a_broken_defaults_file_is_told_and_left_out(
    connect: Connect, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "generation_config.json").write_text("{")
    with background(
        Weights(identity="8" * 64, model=str(tmp_path)), Serve(port=0, name="bot", engine="scripted")
    ) as url:
        assert text_of(ask(connect(url), "hello")) == "hello"
    assert "generation_config.json is not read" in caplog.text


def _kept(place: Place, *ids: str) -> list[Any]:
    return [place.ledger.interaction(identity) for identity in ids]


def test_what_is_kept_of_which_request(champion: Place, connect: Connect) -> None:
    with background(champion.source, Serve(port=0, name="bot", engine="scripted")) as url:
        client = connect(url)
        create = client.chat.completions.with_raw_response.create
        asked: dict[str, Any] = {"model": "bot", "messages": [{"role": "user", "content": "hello"}]}
        reply = create(**asked, n=2, seed=4)
        first, second = reply.headers["x-nacre-response-id"].split(", ")
        assert (reply.headers["x-nacre-version"], reply.headers["x-nacre-arm"]) == ("1", "champion")
        assert first == reply.parse().id
        text = client.completions.create(model="bot", prompt="go on").id
        scored = client.completions.create(model="bot", prompt="go on", echo=True).id
        ids = client.completions.create(model="bot", prompt=[1, 2]).id
        private = ask(client, "secret", store=False).id
        called = client.chat.completions.create(**asked, tools=[TOOL]).id
        for rated in (first, second, text):
            assert _post(url, "/v1/feedback", {"response_id": rated, "stars": 5})[0] == 200
        for rated in (scored, ids, private):
            assert _post(url, "/v1/feedback", {"response_id": rated, "stars": 5})[0] == 404
        with pytest.raises(openai.InternalServerError):
            ask(client, REFUSE)
        with pytest.raises(openai.InternalServerError):
            ask(client, BREAK)
        with pytest.raises(openai.BadRequestError):
            ask(client, "x" * 5000)
    told = _kept(champion, first, second, text)
    assert told[0].answer == "4 hello"
    assert [(one.version, one.arm, one.finish) for one in told] == [(1, "champion", "stop")] * 3
    assert told[1].answer != told[0].answer
    assert [turn.content for turn in told[2].messages] == ["go on"]
    assert _kept(champion, scored, ids, private) == [None] * 3
    assert json.loads(_kept(champion, called)[0].answer) == {"name": "weather", "arguments": {"city": "上海"}}
    assert [one.finish for one in kept(champion)] == ["stop", "stop", "stop", "tool_calls", "error", "error"]


def test_what_nobody_expected_is_told_in_a_stream_cut_and_counts_as_the_versions_error(
    champion: Place, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    give = ScriptedGeneration.next

    async def next_or_not(self: ScriptedGeneration) -> Any:
        if "odd" in self._question:
            raise KeyError("a private detail")
        return await give(self)

    monkeypatch.setattr(ScriptedGeneration, "next", next_or_not)
    before = len(kept(champion))
    with background(champion.source, Serve(port=0, name="bot", engine="scripted")) as url:
        client = connect(url)
        for stream in (True, False):
            with pytest.raises(openai.APIError, match="under request find-me") as caught:
                list(ask(client, "odd", stream=stream, extra_headers={"x-request-id": "find-me"}))
            assert "private" not in str(caught.value.body)
        assert text_of(ask(client, "hello")) == "hello"
    assert "request find-me failed" in caplog.text
    assert [one.finish for one in kept(champion)[before:]] == ["error", "error", "stop"]


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)

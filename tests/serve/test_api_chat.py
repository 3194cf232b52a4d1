import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import openai
import pytest
from serving_kit import ANSWERS, LONG, QUESTION, Connect, ask, text_of

from nacre.serve.api.chat import called_text


@pytest.fixture
def client(folder_url: str, connect: Connect) -> openai.OpenAI:
    return connect(folder_url)


def _stream(client: openai.OpenAI, question: str = QUESTION, **options: Any) -> list[Any]:
    return list(ask(client, question, stream=True, **options))


def _streamed_text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _post(url: str, body: bytes, path: str = "/v1/chat/completions") -> tuple[int, dict[str, Any], dict[str, str]]:
    """For bodies that the official client cannot be made to send."""
    request = urllib.request.Request(url + path, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply), {key.lower(): value for key, value in reply.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), {key.lower(): value for key, value in error.headers.items()}


def test_a_plain_answer_has_openais_shape(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert text_of(answer) == ANSWERS[0]
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "bot")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > len(ANSWERS[0])
    assert answer.system_fingerprint is not None
    assert "embedded" in answer.system_fingerprint


def test_a_stream_opens_with_the_role_ends_with_a_finish_and_keeps_one_id(client: openai.OpenAI) -> None:
    chunks = _stream(client)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert len({chunk.id for chunk in chunks}) == 1
    assert _streamed_text(chunks) == ANSWERS[0]
    assert all("\ufffd" not in (chunk.choices[0].delta.content or "") for chunk in chunks)
    assert len(chunks) > 10, "the Chinese answer must come in pieces"
    assert "usage" not in chunks[0].model_extra
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_as_a_last_chunk_where_asked_for(client: openai.OpenAI) -> None:
    chunks = _stream(client, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(client).usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_raw_stream_is_server_sent_events_with_done(folder_url: str) -> None:
    body = {"model": "bot", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "stream": True}
    request = urllib.request.Request(f"{folder_url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = reply.read().decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])


def test_lengths_bind_and_the_newer_name_counts(client: openai.OpenAI) -> None:
    short = ask(client, max_tokens=40, max_completion_tokens=9)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 9
    assert ANSWERS[0].startswith(text_of(short)), "a character that did not fit is left out, not broken"
    assert _streamed_text(_stream(client, max_tokens=9)) == text_of(short)


@pytest.mark.parametrize("stop", ["一层", ["旧", "地生"], "层地"])
def test_stop_texts_across_tokens_are_cut_plain_and_streamed(client: openai.OpenAI, stop: Any) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    expected = ANSWERS[0][: min(ANSWERS[0].index(text) for text in stops)]
    plain = ask(client, stop=stop)
    assert text_of(plain) == expected
    assert plain.choices[0].finish_reason == "stop"
    assert _streamed_text(_stream(client, stop=stop)) == expected


def test_a_seed_repeats_the_text_and_another_one_does_not(client: openai.OpenAI) -> None:
    def draw(seed: int | None) -> str:
        return text_of(ask(client, "anything", temperature=1.7, seed=seed, max_tokens=40))

    assert draw(11) == draw(11)
    assert len({draw(seed) for seed in range(5)}) == 5
    assert draw(None) != draw(None)
    streamed = _streamed_text(_stream(client, "anything", temperature=1.7, seed=11, max_tokens=40))
    assert streamed == draw(11)


def test_top_p_zero_and_temperature_zero_agree(client: openai.OpenAI) -> None:
    assert text_of(ask(client, temperature=1.0, top_p=0.0, seed=3)) == ANSWERS[0]


def test_content_parts_are_one_text(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": QUESTION[:3]}, {"type": "text", "text": QUESTION[3:]}]
    answer = client.chat.completions.create(model="bot", temperature=0, messages=[{"role": "user", "content": parts}])
    assert text_of(answer) == ANSWERS[0]


def test_a_system_message_changes_the_prompt(client: openai.OpenAI) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    answer = client.chat.completions.create(model="bot", temperature=0, max_tokens=5, messages=messages)
    assert answer.usage is not None
    bare = ask(client, max_tokens=5).usage
    assert bare is not None
    assert answer.usage.prompt_tokens > bare.prompt_tokens


def test_a_system_message_between_others_is_rendered_where_it_stands(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "no"}]
    told = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}]

    def tokens(*more: dict[str, str]) -> int:
        asked: Any = [*messages, *more, {"role": "user", "content": QUESTION}]
        answer = client.chat.completions.create(model="bot", temperature=0, max_tokens=2, messages=asked)
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    assert tokens() < tokens(told[0]) < tokens(*told)


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["bot"]
    assert client.models.retrieve("bot").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("../../etc/passwd")
    assert caught.value.code in ("model_not_found", "not_found")


@pytest.mark.parametrize("name", ["other", "bot@3", "bot@", "/etc/passwd", ""])
def test_an_unknown_model_is_404(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model=name)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 10**6}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"logit_bias": {"word": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias[5]"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x" * 1000]}, "stop"),
        ({"seed": "one"}, "seed"),
        ({"seed": 2**70}, None),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 10**9}, "messages"),
    ],
)
def test_what_is_not_served_is_refused_by_name(client: openai.OpenAI, options: Any, param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **options)
    assert caught.value.type == "invalid_request_error"
    if param is not None:
        assert caught.value.param == param
        assert param in caught.value.message or param == "messages"


def test_values_that_change_nothing_pass(client: openai.OpenAI) -> None:
    harmless = {"n": 1, "logprobs": False, "tools": [], "response_format": {"type": "text"}, "presence_penalty": 0.0}
    assert text_of(ask(client, **harmless, logit_bias=None)) == ANSWERS[0]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("x", "messages"),
        ([{"role": "wizard", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}], "messages[0].content"),
        ([{"role": "system", "content": "x"}], "messages"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "messages"),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}],
            "messages[1].tool_calls[0].function",
        ),
    ],
)
def test_bad_messages_are_refused_by_place(client: openai.OpenAI, messages: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="bot", messages=messages)
    assert caught.value.param == param


def test_a_prompt_beyond_the_context_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "x" * 5000)
    assert caught.value.code == "context_length_exceeded"


def test_ignored_keys_are_named_in_a_header(client: openai.OpenAI) -> None:
    reply = client.chat.completions.with_raw_response.create(
        model="bot",
        messages=[{"role": "user", "content": QUESTION, "name": "me"}],
        temperature=0,
        user="u1",
        extra_body={"mystery": 5, "new\r\nx-evil: 1": 2},
    )
    assert text_of(reply.parse()) == ANSWERS[0]
    assert reply.headers["x-nacre-ignored"] == "(unprintable), messages[].name, mystery"
    assert "x-evil" not in reply.headers


def test_headers_name_request_version_and_response(client: openai.OpenAI) -> None:
    create = client.chat.completions.with_raw_response.create
    request = {"model": "bot", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 2}
    reply = create(**request, extra_headers={"x-request-id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["x-nacre-response-id"] == reply.parse().id
    assert reply.headers["x-nacre-version"] == "0" * 12
    assert "x-nacre-ignored" not in reply.headers
    assert create(**request, extra_headers={"x-request-id": "no spaces"}).headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: b"", 400),
        (lambda: b"{", 400),
        (lambda: b"[]", 400),
        (lambda: b'"text"', 400),
        (lambda: b"\xff\xfe", 400),
        (lambda: b'{"model": "bot", "temperature": NaN}', 400),
        (lambda: b'{"model": "bot", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (lambda: b'{"a":' * 40 + b"1" + b"}" * 40, 400),
        (lambda: b"[" * 100_000, 400),
        (lambda: b'{"model": "' + b"x" * 3_000_000 + b'"}', 413),
    ],
)
def test_broken_bodies_get_an_error_object(folder_url: str, make: Callable[[], bytes], status: int) -> None:
    code, body, headers = _post(folder_url, make())
    assert code == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in json.dumps(body)
    assert headers["x-request-id"]


def test_an_unexpected_error_is_500_with_the_requests_id_and_no_traceback(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(body: object) -> None:
        raise KeyError("a private detail")

    monkeypatch.setattr("nacre.serve.api.completion.create_chat._parse", broken)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, extra_headers={"x-request-id": "find-me"})
    assert "find-me" in caught.value.message
    assert "private" not in str(caught.value.body)
    assert "a private detail" in caplog.text
    monkeypatch.undo()
    assert text_of(ask(client)) == ANSWERS[0]


def test_unknown_paths_and_methods_get_an_error_object(folder_url: str) -> None:
    code, body, _ = _post(folder_url, b"{}", "/v1/nothing")
    assert (code, body["error"]["type"]) == (404, "not_found_error")
    code, body, _ = _post(folder_url, b"{}", "/health")
    assert (code, body["error"]["code"]) == (405, "method_not_allowed")


def test_health_of_a_folder(folder_url: str) -> None:
    with urllib.request.urlopen(f"{folder_url}/health", timeout=10) as reply:
        assert json.load(reply)["status"] == "ok"


def test_a_folder_takes_no_feedback_and_says_why(folder_url: str, client: openai.OpenAI) -> None:
    said = json.dumps({"response_id": ask(client, max_tokens=2).id, "stars": 5}).encode()
    code, body, _ = _post(folder_url, said, "/v1/feedback")
    assert (code, body["error"]["code"]) == (404, "feedback_not_kept")


def test_the_long_answer_is_long(client: openai.OpenAI) -> None:
    answer = ask(client, LONG, max_tokens=60)
    assert answer.choices[0].finish_reason == "length"


def test_calls_are_kept_however_deep_their_arguments_go() -> None:
    def kept(arguments: str) -> str:
        return called_text([{"function": {"name": "weather", "arguments": arguments}}])

    assert json.loads(kept('{"city": [1]}')) == {"name": "weather", "arguments": {"city": [1]}}
    for depth in (*range(900, 1000), 100_000):  # somewhere there Python reads and cannot write any more
        for arguments in ("[" * depth + "]" * depth, "[" * depth):
            assert kept(arguments).startswith('{"name": "weather", "arguments": ')
    assert json.loads(kept("[" * 100_000))["arguments"] == "[" * 100_000
    assert json.loads(called_text([{"function": {"name": "a", "arguments": ""}}, {}])) == [
        {"name": "a", "arguments": {}},
        {"name": "", "arguments": {}},
    ]

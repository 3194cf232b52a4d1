"""The twenty promises of OpenAI's API, one test each, by the official client, on every engine."""

import json
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from conformance_kit import KEY, SERVERS, WITHOUT_EMBEDDINGS
from gateway_kit import until
from serving_kit import ANSWERS, LONG, QUESTION, Connect, Place, ask, kept, text_of

from nacre.records import Interaction
from nacre.serve.api.completion import PlainAnswer, StreamedAnswer
from nacre.serve.engines import ENGINES

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


@pytest.fixture
def url(served: tuple[str, Place]) -> str:
    return served[0]


@pytest.fixture
def client(url: str, connect: Connect) -> openai.OpenAI:
    return connect(url, KEY)


def _stream(client: openai.OpenAI, question: str = QUESTION, **options: Any) -> list[Any]:
    return list(ask(client, question, stream=True, **options))


def _said(chunks: list[Any], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def _post(url: str, path: str, body: Any, key: str = KEY) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return httpx.post(url + path, content=content, headers=headers, timeout=60)


def test_every_engine_is_tested() -> None:
    assert set(ENGINES.targets()) - {"scripted", "named"} == set(SERVERS)


def test_01_models_are_public_names(client: openai.OpenAI) -> None:
    # version 2 is loaded behind the champion's back
    until(lambda: "bot@2" in [model.id for model in client.models.list()])
    names = [model.id for model in client.models.list()]
    assert {"bot", "bot@1", "bot@2", "bot:champion"} <= set(names)
    assert not any("/" in name for name in names)
    assert client.models.retrieve("bot@2").id == "bot@2"
    assert text_of(ask(client, model="bot@2")) == ANSWERS[1]
    assert text_of(ask(client, model="bot:champion")) == ANSWERS[0]
    for path in ("/etc/passwd", "bot@../1", "bot@3"):
        with pytest.raises(openai.NotFoundError):
            ask(client, model=path)


def test_02_a_chat_has_openais_form(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "bot@1")
    assert abs(answer.created - time.time()) < 600
    assert (text_of(answer), answer.choices[0].finish_reason) == (ANSWERS[0], "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > len(ANSWERS[0])
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_03_a_stream_has_a_role_one_id_a_finish_and_done(client: openai.OpenAI, url: str) -> None:
    chunks = _stream(client)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert _said(chunks) == ANSWERS[0]
    body = {"model": "bot", "messages": [{"role": "user", "content": QUESTION}], "stream": True, "temperature": 0}
    raw = _post(url, "/v1/chat/completions", body)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.text.endswith("\n\ndata: [DONE]\n\n")


def test_04_usage_comes_last_where_asked_for(client: openai.OpenAI) -> None:
    chunks = _stream(client, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == ask(client).usage.total_tokens
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    assert all("usage" not in chunk.model_fields_set for chunk in _stream(client))


def test_05_lengths_bind_and_the_newer_name_counts(client: openai.OpenAI) -> None:
    short = ask(client, LONG, max_tokens=40, max_completion_tokens=9)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 9)
    for wrong in ({"max_tokens": 0}, {"max_completion_tokens": -1}, {"max_tokens": 1.5}, {"max_tokens": "9"}):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, **wrong)
        assert caught.value.param == next(iter(wrong))


def test_06_temperature_and_top_p_draw(client: openai.OpenAI) -> None:
    drawn = {text_of(ask(client, "anything", temperature=1.7, max_tokens=20)) for _ in range(4)}
    assert len(drawn) > 1
    assert {text_of(ask(client, temperature=0)) for _ in range(2)} == {ANSWERS[0]}
    assert text_of(ask(client, temperature=2.0, top_p=0.0)) == ANSWERS[0]
    for wrong in ({"temperature": 2.1}, {"temperature": -1}, {"top_p": 1.1}, {"top_p": -0.1}):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, **wrong)
        assert caught.value.param == next(iter(wrong))


def test_07_a_seed_repeats_whatever_else_runs(client: openai.OpenAI) -> None:
    def drawn(seed: int) -> str:
        return text_of(ask(client, "anything", temperature=1.5, seed=seed, max_tokens=24))

    alone = drawn(11)
    mates = [threading.Thread(target=drawn, args=(seed,)) for seed in range(3)]
    for mate in mates:
        mate.start()
    beside = drawn(11)
    for mate in mates:
        mate.join()
    assert beside == alone
    assert drawn(12) != alone
    until(lambda: "bot@2" in [model.id for model in client.models.list()])
    first, second = (ask(client, model=name).system_fingerprint for name in ("bot@1", "bot@2"))
    assert first != second
    assert ask(client).system_fingerprint == first


@pytest.mark.parametrize("stop", ["一层", ["旧", "地生"], "层地"])
def test_08_stops_across_tokens_are_cut(client: openai.OpenAI, stop: Any) -> None:
    wanted = ANSWERS[0][: min(ANSWERS[0].index(one) for one in ([stop] if isinstance(stop, str) else stop))]
    plain = ask(client, stop=stop)
    assert (text_of(plain), plain.choices[0].finish_reason) == (wanted, "stop")
    assert _said(_stream(client, stop=stop)) == wanted
    with pytest.raises(openai.BadRequestError):
        ask(client, stop=["a"] * 5)


def test_09_several_answers_and_log_probabilities(client: openai.OpenAI) -> None:
    drawn = {"n": 3, "temperature": 1.5, "seed": 5, "max_tokens": 12}
    several = ask(client, "anything", **drawn)
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    streamed = _stream(client, "anything", **drawn)
    assert [_said(streamed, index) for index in range(3)] == texts
    told = ask(client, logprobs=True, top_logprobs=2, max_tokens=12).choices[0].logprobs
    assert told is not None
    assert len(told.content) == 12
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in told.content)
    assert b"".join(bytes(token.bytes or []) for token in told.content) in (ANSWERS[0] * 2).encode()
    old = client.completions.create(model="bot", prompt="layer by layer", max_tokens=3, logprobs=2, temperature=0)
    assert old.choices[0].logprobs is not None
    assert len(old.choices[0].logprobs.token_logprobs) == len(old.choices[0].logprobs.tokens) == 3
    for wrong, param in (({"n": 1000}, "n"), ({"top_logprobs": 2}, "top_logprobs")):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, **wrong)
        assert caught.value.param == param


def test_10_a_response_format_is_enforced(client: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "said", "schema": SCHEMA, "strict": True}}
    answer = ask(client, response_format=wanted, max_tokens=400, temperature=1.0, seed=1)
    assert answer.choices[0].finish_reason == "stop"
    assert set(json.loads(text_of(answer))) == {"ok"}
    assert json.loads(_said(_stream(client, response_format=wanted, max_tokens=400)))["ok"] in (True, False)
    cut = ask(client, response_format={"type": "json_object"}, max_tokens=8)
    assert text_of(cut).lstrip().startswith("{")
    for wrong in ({"type": "xml"}, {"type": "json_schema"}):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, response_format=wrong)
        assert caught.value.param.startswith("response_format")


def test_11_tools_pass_or_are_refused_by_name(client: openai.OpenAI, url: str) -> None:
    # A plain model's template knows no tools: the engine that runs it refuses them, and so does one in front of it.
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, tools=[TOOL], tool_choice="auto")
    assert "tools" in caught.value.message
    assert text_of(ask(client, tools=[], tool_choice="none")) == ANSWERS[0]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, tool_choice="required")
    assert caught.value.param == "tool_choice"


def test_12_contents_are_read_as_texts(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": QUESTION[:3]}, {"type": "text", "text": QUESTION[3:]}]
    answer = client.chat.completions.create(model="bot", temperature=0, messages=[{"role": "user", "content": parts}])
    assert text_of(answer) == ANSWERS[0]
    image = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}}]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"role": "wizard", "content": "x"}, "messages[0].role"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": image}, "messages[0].content"),
    ]
    for message, param in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="bot", messages=[message])
        assert caught.value.param == param


def test_13_completions_take_every_prompt_echo_and_log_probabilities(client: openai.OpenAI) -> None:
    def go_on(prompt: Any, **options: Any) -> Any:
        return client.completions.create(
            **{"model": "bot", "prompt": prompt, "max_tokens": 4, "temperature": 0} | options
        )

    alone = [go_on(prompt).choices[0].text for prompt in ("layer", "Human: 你")]
    together = go_on(["layer", "Human: 你"])
    assert together.id.startswith("cmpl-")
    assert [choice.text for choice in together.choices] == alone
    ids = [[5, 6, 7], [8, 9]]
    scored = go_on(ids, echo=True, logprobs=1, max_tokens=1)
    for asked, choice in zip(ids, scored.choices, strict=True):
        assert len(choice.logprobs.tokens) == len(asked) + 1
        assert choice.logprobs.token_logprobs[0] is None
        assert all(one <= 0 for one in choice.logprobs.token_logprobs[1:])
    told = go_on("龘🙂a", echo=True, logprobs=0, max_tokens=1).choices[0].logprobs
    assert len(told.token_logprobs) == len(told.tokens) == len(told.text_offset)
    assert told.text_offset == sorted(told.text_offset)
    assert told.text_offset[-1] == 3, "in characters, though a token may be a part of one"
    assert go_on("layer", echo=True).choices[0].text == "layer" + alone[0]
    assert "".join(chunk.choices[0].text for chunk in go_on("layer", echo=True, stream=True)) == "layer" + alone[0]
    for wrong in ({"suffix": "x"}, {"best_of": 2}, {"max_tokens": 0}, {"prompt": []}, {"prompt": [1, "a"]}):
        with pytest.raises(openai.BadRequestError) as caught:
            go_on("layer", **wrong) if "prompt" not in wrong else go_on(**wrong)
        assert caught.value.param == next(iter(wrong))


def test_14_embeddings_or_an_error_object(client: openai.OpenAI, url: str, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["served"] in WITHOUT_EMBEDDINGS:
        refused = _post(url, "/v1/embeddings", {"model": "bot", "input": "layer"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")
        return
    vectors = [item.embedding for item in client.embeddings.create(model="bot", input=["layer", "层", "layer"]).data]
    assert all(abs(sum(number**2 for number in vector) - 1) < 1e-3 for vector in vectors)
    assert max(abs(one - other) for one, other in zip(vectors[0], vectors[2], strict=True)) < 1e-3
    plain = _post(url, "/v1/embeddings", {"model": "bot", "input": "layer"}).json()["data"][0]["embedding"]
    assert max(abs(one - other) for one, other in zip(vectors[0], plain, strict=True)) < 1e-3
    many = client.embeddings.create(model="bot", input=["layer"] * 200).data
    assert len(many) == 200, "more than may wait"
    assert _post(url, "/v1/nothing", {}).json()["error"]["type"] == "not_found_error"


def test_15_a_refusal_names_the_parameter_whatever_engine_refuses(url: str) -> None:
    hello = {"model": "bot", "messages": [{"role": "user", "content": "hello"}]}
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nope"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for name, value in {"logit_bias": {"99999999": 1}, "response_format": schema, "tools": [tool]}.items():
        error = _post(url, "/v1/chat/completions", hello | {name: value}).json()["error"]
        assert error["param"] == name, error


def test_15_errors_are_openais_error_objects(client: openai.OpenAI, url: str, connect: Connect) -> None:
    chat = "/v1/chat/completions"
    found = {
        "wrong": _post(url, chat, b"{"),
        "key": _post(url, chat, {}, key="other"),
        "model": _post(url, chat, {"model": "x", "messages": [{"role": "user", "content": "x"}]}),
        "route": _post(url, "/v1/nothing", {}),
        "method": httpx.put(url + chat, headers={"authorization": f"Bearer {KEY}"}, timeout=30),
        "long": _post(url, chat, b'{"model": "' + b"x" * 3_000_000 + b'"}'),
    }
    assert {name: reply.status_code for name, reply in found.items()} == {
        "wrong": 400,
        "key": 401,
        "model": 404,
        "route": 404,
        "method": 405,
        "long": 413,
    }
    for reply in found.values():
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert "Traceback" not in reply.text
        assert reply.headers["x-request-id"]
    assert found["key"].json()["error"]["code"] == "invalid_api_key"
    assert found["model"].json()["error"]["code"] == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        ask(connect(url, "other"))


@pytest.mark.parametrize("options", [{"max_tokens": 10**9}, {"stream": True, "max_tokens": 10**9}, {}])
def test_16_what_cannot_fit_is_refused_before_any_computing(client: openai.OpenAI, options: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, QUESTION if options else "x" * 5000, **options)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("answer", [PlainAnswer, StreamedAnswer])
def test_17_a_client_that_leaves_frees_its_place(
    client: openai.OpenAI, served: tuple[str, Place], answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, place = served
    begun, init = threading.Event(), answer.__init__
    monkeypatch.setattr(answer, "__init__", lambda self, one: (init(self, one), begun.set())[0])
    before = len(_aborted(place))
    address = urlsplit(url)
    body = {"model": "bot", "messages": [{"role": "user", "content": LONG}], "temperature": 0, "max_tokens": 1900}
    asked = json.dumps(body | {"stream": answer is StreamedAnswer}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(asked)}\r\n\r\n".encode() + asked)
        assert begun.wait(30)
        if answer is StreamedAnswer:
            while b'"content":"1"' not in connection.recv(65536):
                pass
    deadline = time.monotonic() + 30
    while len(_aborted(place)) == before:
        assert time.monotonic() < deadline, "the request never ended"
        time.sleep(0.02)
    assert all(one.answer_tokens < 1900 for one in _aborted(place))
    assert text_of(ask(client)) == ANSWERS[0]


def test_18_unknown_keys_are_named_and_extras_work(client: openai.OpenAI) -> None:
    extras = {"top_k": 1, "min_p": 0.5, "repetition_penalty": 1.0, "mystery": 1}
    create = client.chat.completions.with_raw_response.create
    reply = create(model="bot", messages=[{"role": "user", "content": QUESTION}], temperature=2, extra_body=extras)
    assert text_of(reply.parse()) == ANSWERS[0], "top_k 1 is greedy"
    assert reply.headers["x-nacre-ignored"] == "mystery"


def test_19_characters_come_whole(client: openai.OpenAI) -> None:
    chunks = _stream(client)
    assert len(chunks) > 10, "the Chinese answer must come in pieces"
    assert all("\ufffd" not in (chunk.choices[0].delta.content or "") for chunk in chunks)
    for tokens in range(1, 8):
        assert ANSWERS[0].startswith(text_of(ask(client, max_tokens=tokens)))


def test_20_headers_tell_request_version_arm_and_response(client: openai.OpenAI) -> None:
    for stream in (False, True):
        reply = client.chat.completions.with_raw_response.create(
            model="bot",
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=2,
            stream=stream,
            extra_headers={"x-request-id": "mine-1"},
        )
        told = reply.headers
        assert (told["x-request-id"], told["x-nacre-version"], told["x-nacre-arm"]) == ("mine-1", "1", "champion")
        said = next(iter(reply.parse())) if stream else reply.parse()
        assert told["x-nacre-response-id"] == said.id


def _aborted(place: Place) -> list[Interaction]:
    return [one for one in kept(place) if one.finish == "aborted"]

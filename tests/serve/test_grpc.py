"""Both gRPC services with a real client: whole, streamed, cancelled, refused, limited, kept."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway_kit import Hall, NamedEngine, chat, make_hall, send, serving, until
from scripted_engine import BREAK, CONTEXT, HANG, MADE, REFUSE, ScriptedEngine
from serving_kit import ANSWERS, QUESTION, Shelf

from nacre.base.errors import InputError, NacreError
from nacre.serve.engines import ENGINES
from nacre.serve.grpc import SERVERS
from nacre.serve.grpc.chat_pb2 import ChatRequest, Message, Sampling
from nacre.serve.grpc.inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ServerLiveRequest,
    ServerMetadataRequest,
    ServerReadyRequest,
)
from nacre.serve.grpc.stubs import ChatStub, InferenceStub
from nacre.serve.run import ApiServer

KEY = "sk-grpc-0123456789"
MINE = (("authorization", f"Bearer {KEY}"),)
Tensor = ModelInferRequest.InferInputTensor


@pytest.fixture(scope="module", autouse=True)
def scripted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES._entries, "scripted", "scripted_engine:ScriptedEngine")
        yield


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    made = make_hall(tmp_path_factory.mktemp("grpc") / "space")
    yield made
    made.space.close()


@pytest.fixture(scope="module")
def server(hall: Hall) -> Iterator[ApiServer]:
    with serving(hall, engine="scripted", grpc_port=0, api_keys=(KEY,)) as server:
        yield server


@pytest.fixture(scope="module")
def engine(server: ApiServer) -> ScriptedEngine:
    return MADE[-1]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Hall]:
    """A hall of one test alone."""
    made = make_hall(tmp_path / "space")
    yield made
    made.space.close()


@pytest.fixture(scope="module")
def channel(server: ApiServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def talk(channel: grpc.Channel) -> ChatStub:
    return ChatStub(channel)


@pytest.fixture(scope="module")
def infer(channel: grpc.Channel) -> InferenceStub:
    return InferenceStub(channel)


def asked(text: str = "hello", model: str = "bot", **more: Any) -> ChatRequest:
    return ChatRequest(model=model, messages=[Message(role="user", content=text)], **more)


def tensor(name: str, *items: str) -> Tensor:
    contents = InferTensorContents(bytes_contents=[item.encode() for item in items])
    return Tensor(name=name, datatype="BYTES", shape=[len(items)], contents=contents)


def refusal(call: Any, *arguments: Any, **more: Any) -> grpc.RpcError:
    def ask() -> None:
        answer = call(*arguments, **({"metadata": MINE} | more))
        if hasattr(answer, "__next__"):
            list(answer)

    with pytest.raises(grpc.RpcError) as caught:
        ask()
    return caught.value


def told(error: Any) -> dict[str, str]:
    return dict(error.trailing_metadata())


def test_an_answer_says_who_gave_it_and_takes_feedback(talk: ChatStub, hall: Hall, server: ApiServer) -> None:
    sampling = Sampling(seed=7, max_tokens=6)
    reply, call = talk.Chat.with_call(asked("hello", sampling=sampling, user="ann"), metadata=MINE)
    assert [(one.content, one.finish_reason) for one in reply.choices] == [("7 hell", "length")]
    assert (reply.head.model, reply.head.version, reply.head.arm) == ("bot@1", "1", "champion")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 6)
    metadata = dict(call.trailing_metadata())
    assert metadata["x-nacre-version"] == "1"
    assert metadata["x-nacre-response-id"] == reply.head.response_id
    assert metadata["x-request-id"]
    until(lambda: hall.ledger.interaction(reply.head.response_id) is not None)
    kept = hall.ledger.interaction(reply.head.response_id)
    assert kept is not None
    assert (kept.answer, kept.finish, kept.answer_tokens, kept.version) == ("7 hell", "length", 6, 1)
    body = {"response_id": reply.head.response_id, "thumb": "up"}
    assert send(server.url, "/v1/feedback", body, key=KEY).status == 200


def test_the_same_user_is_known_as_over_rest(talk: ChatStub, hall: Hall, server: ApiServer) -> None:
    over_rest = chat(server.url, key=KEY, user="bob").headers["x-nacre-response-id"]
    over_grpc = talk.Chat(asked(user="bob"), metadata=MINE).head.response_id
    until(lambda: None not in (hall.ledger.interaction(over_rest), hall.ledger.interaction(over_grpc)))
    sessions = {hall.ledger.interaction(one).session for one in (over_rest, over_grpc)}
    assert len(sessions) == 1
    assert sessions != {""}


def test_what_shall_not_be_kept_is_not(talk: ChatStub, hall: Hall) -> None:
    unkept = [
        talk.Chat(asked(store=False), metadata=MINE).head.response_id,
        talk.Chat(asked(), metadata=(*MINE, ("x-nacre-no-store", "1"))).head.response_id,
    ]
    last = talk.Chat(asked(), metadata=MINE).head.response_id
    until(lambda: hall.ledger.interaction(last) is not None)
    assert [hall.ledger.interaction(one) for one in unkept] == [None, None]


def test_a_stream_is_the_whole_answer_in_pieces(talk: ChatStub) -> None:
    chunks = list(talk.ChatStream(asked("贝壳 shell"), metadata=MINE))
    assert "".join(chunk.choice.content for chunk in chunks) == "贝壳 shell"
    assert len(chunks) == 9  # a character each, and the end
    assert [chunk.HasField("head") for chunk in chunks] == [True] + [False] * 8
    assert [chunk.choice.finish_reason for chunk in chunks] == [""] * 8 + ["stop"]
    assert [chunk.HasField("usage") for chunk in chunks] == [False] * 8 + [True]
    assert chunks[0].head.version == "1"
    assert chunks[-1].usage.completion_tokens == 8


def test_other_keys_of_the_api_go_into_options(talk: ChatStub) -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    called = talk.Chat(asked(options=json.dumps({"tools": [tool]})), metadata=MINE).choices[0]
    assert called.finish_reason == "tool_calls"
    assert json.loads(called.tool_calls)[0]["function"]["arguments"] == '{"city": "上海"}'
    two = talk.Chat(asked("ab", options=json.dumps({"n": 2, "logprobs": True, "wish": 1})), metadata=MINE)
    assert [choice.content for choice in two.choices] == ["ab", "ab"]
    assert [token["token"] for token in json.loads(two.choices[1].logprobs)["content"]] == ["a", "b"]
    assert len(set(two.head.response_ids)) == 2
    assert list(two.head.ignored) == ["wish"]


@pytest.mark.parametrize("method", ["Chat", "ChatStream"])
@pytest.mark.parametrize(
    ("request_", "metadata", "code", "name"),
    [
        (asked(), (), "UNAUTHENTICATED", "invalid_api_key"),
        (asked(), (("authorization", "Bearer sk-wrong"),), "UNAUTHENTICATED", "invalid_api_key"),
        (asked(model="other"), MINE, "NOT_FOUND", "model_not_found"),
        (asked(model="bot@9"), MINE, "NOT_FOUND", "model_not_found"),
        (asked("x" * CONTEXT), MINE, "INVALID_ARGUMENT", "context_length_exceeded"),
        (asked(sampling=Sampling(temperature=9)), MINE, "INVALID_ARGUMENT", "invalid_value"),
        (asked(sampling=Sampling(temperature=float("nan"))), MINE, "INVALID_ARGUMENT", "invalid_value"),
        (asked(options='{"seed": '), MINE, "INVALID_ARGUMENT", "invalid_json"),
        (asked(options='{"stream": true}'), MINE, "INVALID_ARGUMENT", "invalid_value"),
        (asked(options="[" * 100_000), MINE, "INVALID_ARGUMENT", "invalid_json"),
        (ChatRequest(model="bot"), MINE, "INVALID_ARGUMENT", "invalid_value"),
        (asked(REFUSE), MINE, "UNAVAILABLE", "unavailable"),
    ],
    ids=[
        "no-key",
        "wrong-key",
        "model",
        "version",
        "context",
        "range",
        "nan",
        "json",
        "own",
        "deep",
        "empty",
        "engine",
    ],
)
def test_refusals_are_those_of_the_api(
    talk: ChatStub, method: str, request_: ChatRequest, metadata: Any, code: str, name: str
) -> None:
    error = refusal(getattr(talk, method), request_, metadata=metadata)
    assert (error.code().name, told(error)["x-nacre-error-code"]) == (code, name)
    assert error.details()
    assert "x-request-id" in told(error)


def test_the_message_is_the_one_of_the_api(talk: ChatStub, server: ApiServer) -> None:
    over_rest = chat(server.url, key=KEY, temperature=9.0).body["error"]
    error = refusal(talk.Chat, asked(sampling=Sampling(temperature=9)))
    assert (error.details(), told(error)["x-nacre-error-param"]) == (over_rest["message"], over_rest["param"])


def test_a_broken_stream_ends_as_an_error(talk: ChatStub) -> None:
    stream = talk.ChatStream(asked(BREAK), metadata=MINE)
    assert [next(stream).choice.content for _ in range(2)] == ["b", "r"]
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_bytes_that_are_no_message_and_messages_too_long(channel: grpc.Channel, talk: ChatStub) -> None:
    error = refusal(channel.unary_unary("/nacre.v1.Chat/Chat"), b"\xff\xff\xff")
    assert (error.code().name, told(error)["x-nacre-error-code"]) == ("INVALID_ARGUMENT", "invalid_message")
    error = refusal(talk.Chat, asked("x" * 3_000_000))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    error = refusal(channel.unary_unary("/nacre.v1.Chat/Shout"), b"")
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_cancelled_call_stops_the_answer(talk: ChatStub, engine: ScriptedEngine) -> None:
    for method in (talk.Chat.future, talk.ChatStream):
        before = engine.cancelled
        call = method(asked(HANG), metadata=MINE)
        until(lambda: engine.running == 1)
        call.cancel()
        until(lambda before=before: engine.cancelled == before + 1 and engine.running == 0)
    assert talk.Chat(asked(), metadata=MINE).choices[0].content == "hello"


def test_what_a_cancelled_stream_had_made_is_charged(other: Hall) -> None:
    NamedEngine.piece_s[1] = 0.01
    try:
        with serving(other, grpc_port=0) as server, grpc.insecure_channel(server.grpc_address) as channel:
            stream = ChatStub(channel).ChatStream(asked("x" * 4000))
            first = next(stream)
            for _ in range(5):
                next(stream)
            stream.cancel()
            until(lambda: other.ledger.interaction(first.head.response_id) is not None)
            kept = other.ledger.interaction(first.head.response_id)
            assert kept is not None
            assert kept.finish == "aborted"
            assert 6 <= kept.answer_tokens < 4000
    finally:
        NamedEngine.forget()


def test_a_deadline_stops_the_answer(talk: ChatStub, engine: ScriptedEngine) -> None:
    before = engine.cancelled
    error = refusal(talk.Chat, asked(HANG), timeout=0.5)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: engine.cancelled == before + 1)


def test_scopes_and_limits_are_those_of_the_key(other: Hall) -> None:
    hall = other
    _, secret = hall.ledger.keys.create("few", ["infer"], limits={"requests": 2}, actor="test")
    _, opinions = hall.ledger.keys.create("opinions", ["feedback"], actor="test")
    with serving(hall, engine="scripted", grpc_port=0) as server, grpc.insecure_channel(server.grpc_address) as channel:
        talk, infer = ChatStub(channel), InferenceStub(channel)
        error = refusal(talk.Chat, asked(), metadata=(("authorization", f"Bearer {opinions}"),))
        assert (error.code().name, told(error)["x-nacre-error-code"]) == ("PERMISSION_DENIED", "missing_scope")
        mine = (("authorization", f"Bearer {secret}"),)
        _, call = talk.Chat.with_call(asked(), metadata=mine)
        assert dict(call.trailing_metadata())["x-ratelimit-remaining-requests"] == "1"
        wanted = ModelInferRequest(model_name="bot", id="a", inputs=[tensor("text_input", "hi")])
        replies = list(infer.ModelStreamInfer(iter([wanted, wanted]), metadata=mine))
        assert replies[-1].error_message.startswith("this key may make 2 requests a minute")
        error = refusal(talk.Chat, asked(), metadata=mine)
        assert (error.code().name, told(error)["x-nacre-error-code"]) == ("RESOURCE_EXHAUSTED", "rate_limit_exceeded")
        assert int(told(error)["retry-after"]) >= 1


def test_probes_need_no_key_and_the_rest_does(infer: InferenceStub) -> None:
    assert infer.ServerLive(ServerLiveRequest()).live
    assert infer.ServerReady(ServerReadyRequest()).ready
    for call, request in (
        (infer.ServerMetadata, ServerMetadataRequest()),
        (infer.ModelReady, ModelReadyRequest(name="bot")),
        (infer.ModelMetadata, ModelMetadataRequest(name="bot")),
        (infer.ModelInfer, ModelInferRequest(model_name="bot")),
        (infer.ModelStreamInfer, iter([ModelInferRequest(model_name="bot")])),
    ):
        assert refusal(call, request, metadata=()).code() == grpc.StatusCode.UNAUTHENTICATED


def test_metadata_of_server_and_models(infer: InferenceStub) -> None:
    assert infer.ServerMetadata(ServerMetadataRequest(), metadata=MINE).name == "nacre"
    ready = [
        infer.ModelReady(ModelReadyRequest(name=name, version=version), metadata=MINE).ready
        for name, version in (("bot", ""), ("bot", "1"), ("bot", "3"), ("../bot", ""))
    ]
    assert ready == [True, True, False, False]
    told_ = infer.ModelMetadata(ModelMetadataRequest(name="bot"), metadata=MINE)
    assert [(one.name, one.datatype) for one in told_.outputs] == [("text_output", "BYTES"), ("finish_reason", "BYTES")]
    assert list(told_.versions) == ["1"]
    assert refusal(infer.ModelMetadata, ModelMetadataRequest(name="x")).code() == grpc.StatusCode.NOT_FOUND


def test_texts_are_gone_on_with_and_chats_answered(infer: InferenceStub, hall: Hall, engine: ScriptedEngine) -> None:
    request = ModelInferRequest(model_name="bot", id="q1", inputs=[tensor("text_input", "one", "zwei")])
    request.parameters["max_tokens"].int64_param = 100
    request.parameters["temperature"].double_param = 0.0
    reply = infer.ModelInfer(request, metadata=MINE)
    outputs = {one.name: list(one.contents.bytes_contents) for one in reply.outputs}
    assert outputs == {"text_output": [b"one", b"zwei"], "finish_reason": [b"stop", b"stop"]}
    assert (reply.id, reply.model_version, reply.parameters["arm"].string_param) == ("q1", "1", "champion")
    identity = reply.parameters["response_id"].string_param.split(", ")[0]
    until(lambda: hall.ledger.interaction(identity) is not None)
    turns = json.dumps([{"role": "system", "content": "be brief"}, {"role": "user", "content": "贝"}])
    words = tensor("sampling_parameters", '{"seed": 3}')
    wanted = [ModelInferRequest.InferRequestedOutputTensor(name="text_output")]
    request = ModelInferRequest(model_name="bot", inputs=[tensor("messages", turns), words], outputs=wanted)
    reply = infer.ModelInfer(request, metadata=MINE)
    assert [list(one.contents.bytes_contents) for one in reply.outputs] == [["3 贝".encode()]]
    assert engine.seen[-1][0].system == "be brief"


def test_raw_tensors_are_answered_raw(infer: InferenceStub) -> None:
    item = "hé".encode()
    request = ModelInferRequest(model_name="bot", model_version="1")
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(item)) + item)
    reply = infer.ModelInfer(request, metadata=MINE)
    assert reply.raw_output_contents[0] == struct.pack("<I", len(item)) + item
    assert not reply.outputs[0].contents.bytes_contents


def _raw(raw: bytes) -> ModelInferRequest:
    request = ModelInferRequest(model_name="bot", raw_input_contents=[raw])
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    return request


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [tensor("text_input", "a"), tensor("messages", "[]")],
        [tensor("text_input", "a"), tensor("text_input", "b")],
        [tensor("image", "a")],
        [Tensor(name="text_input", datatype="FP32", shape=[1])],
        [Tensor(name="text_input", datatype="BYTES", shape=[2**40])],
        [Tensor(name="text_input", datatype="BYTES", shape=[1])],
        [tensor("messages", "nonsense")],
        [tensor("messages", '1}, "model": "other"')],
        [tensor("text_input", "a"), tensor("sampling_parameters", '{"prompt": "b"}')],
        [tensor("text_input", "a"), tensor("sampling_parameters", '{"logprobs": 1}')],
        [tensor("text_input", "a"), Tensor(name="stream", datatype="BOOL", shape=[1], contents={"bool_contents": [1]})],
    ],
    ids=["none", "both", "twice", "name", "type", "shape", "empty", "json", "inject", "own", "untold", "stream"],
)
def test_wrong_tensors_are_named(infer: InferenceStub, inputs: list[Tensor]) -> None:
    error = refusal(infer.ModelInfer, ModelInferRequest(model_name="bot", inputs=inputs))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "internal" not in error.details()


@pytest.mark.parametrize(
    "raw", [b"\x01", b"\xff\xff\xff\xffx", struct.pack("<I", 1) + b"\xff"], ids=["head", "length", "utf8"]
)
def test_wrong_bytes_are_named(infer: InferenceStub, raw: bytes) -> None:
    assert refusal(infer.ModelInfer, _raw(raw)).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_streamed_inference_answers_one_request_after_the_other(infer: InferenceStub) -> None:
    whole = ModelInferRequest(model_name="bot", id="w", inputs=[tensor("text_input", "abc")])
    whole.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(False)
    wrong = ModelInferRequest(model_name="other", id="x", inputs=[tensor("text_input", "abc")])
    pieces = ModelInferRequest(model_name="bot", id="p", inputs=[tensor("text_input", "ab")])
    replies = list(infer.ModelStreamInfer(iter([whole, wrong, pieces]), metadata=MINE))
    seen = [(one.infer_response.id, bool(one.error_message), b"".join(_texts(one)), _last(one)) for one in replies]
    assert seen == [
        ("w", False, b"abc", True),
        ("x", True, b"", False),
        ("p", False, b"a", False),
        ("p", False, b"b", False),
        ("p", False, b"", True),
    ]


def _texts(reply: Any) -> list[bytes]:
    return [item for one in reply.infer_response.outputs[:1] for item in one.contents.bytes_contents]


def _last(reply: Any) -> bool:
    return bool(reply.infer_response.parameters["triton_final_response"].bool_param)


def test_calls_are_counted_beside_requests(talk: ChatStub, server: ApiServer, hall: Hall) -> None:
    talk.Chat(asked(), metadata=MINE)
    refusal(talk.Chat, asked(), metadata=())
    _, admin = hall.ledger.keys.create("numbers", ["admin"], actor="test")
    until(lambda: send(server.url, "/metrics", key=admin).status == 200)
    text = send(server.url, "/metrics", key=admin).body.decode()
    for status in (200, 401):
        assert f'nacre_requests_total{{route="/nacre.v1.Chat/Chat",status="{status}"}}' in text


def test_slow_senders_are_not_waited_for(other: Hall) -> None:
    wire = {"body_s": 0.3, "idle_s": 0.3}
    with serving(other, grpc_port=0, wire=wire) as server, grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.stream_unary("/nacre.v1.Chat/Chat")

        def never() -> Iterator[bytes]:
            time.sleep(30)
            yield b""

        error = refusal(call, never(), metadata=())
        assert (error.code().name, told(error)["x-nacre-error-code"]) == ("DEADLINE_EXCEEDED", "timeout")


def test_who_reads_nothing_is_not_waited_for(other: Hall) -> None:
    with serving(other, engine="scripted", grpc_port=0, wire={"write_s": 0.3}) as server:
        engine = MADE[-1]
        with grpc.insecure_channel(server.grpc_address, options=[("grpc.http2.bdp_probe", 0)]) as channel:
            stream = ChatStub(channel).ChatStream(asked("x" * 4000, options='{"logprobs": true}'))
            until(lambda: engine.cancelled == 1)
            stream.cancel()


def _said(talk: ChatStub) -> str:
    try:
        return str(talk.Chat(asked()).choices[0].content)
    except grpc.RpcError as error:
        return str(error.code())


def test_one_call_too_many_is_told_to_come_again(other: Hall) -> None:
    with (
        serving(other, engine="scripted", grpc_port=0, wire={"requests": 1}) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        talk, engine = ChatStub(channel), MADE[-1]
        running = talk.Chat.future(asked(HANG))
        until(lambda: engine.running == 1)
        error = refusal(talk.Chat, asked(), metadata=())
        assert (error.code().name, told(error)["x-nacre-error-code"]) == ("UNAVAILABLE", "overloaded")
        assert InferenceStub(channel).ServerLive(ServerLiveRequest()).live
        running.cancel()
        until(lambda: _said(talk) == "hello")


def test_the_port_is_held_and_given_back(other: Hall) -> None:
    with serving(other, grpc_port=0) as server:
        port = int(server.grpc_address.rpartition(":")[2])
        with pytest.raises(NacreError, match="cannot listen for gRPC"), serving(other, grpc_port=port):
            pass
    with serving(other, grpc_port=port) as again, grpc.insecure_channel(again.grpc_address) as channel:
        assert InferenceStub(channel).ServerLive(ServerLiveRequest()).live


def test_running_answers_end_before_the_server_does(other: Hall) -> None:
    NamedEngine.piece_s[1] = 0.02
    try:
        with serving(other, grpc_port=0) as server, grpc.insecure_channel(server.grpc_address) as channel:
            stream = ChatStub(channel).ChatStream(asked("x" * 30))
            got = next(stream).choice.content
            server.stop()
            got += "".join(chunk.choice.content for chunk in stream)
        assert got == "1: " + "x" * 30
    finally:
        NamedEngine.forget()


def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, hall: Hall) -> None:
    monkeypatch.setitem(SERVERS._entries, "grpc", "not_installed_anywhere:GrpcServer")
    with (
        pytest.raises(InputError, match="not_installed_anywhere is not installed") as caught,
        serving(hall, grpc_port=0),
    ):
        pass
    assert caught.value.fix == "pip install 'nacre[grpc]'"


def test_beyond_loopback_a_key_is_needed(other: Hall) -> None:
    with pytest.raises(InputError, match="without an API key"), serving(other, host="0.0.0.0", grpc_port=0):
        pass


def test_the_embedded_engine_says_the_same_as_over_rest(shelf: Shelf) -> None:
    with serving(shelf.weights(0), engine="embedded", grpc_port=0) as server:
        with grpc.insecure_channel(server.grpc_address) as channel:
            talk, infer = ChatStub(channel), InferenceStub(channel)
            question = asked(QUESTION, sampling=Sampling(temperature=0, seed=1))
            whole = talk.Chat(question)
            pieces = list(talk.ChatStream(question))
            texts = [tensor("text_input", QUESTION), tensor("sampling_parameters", '{"temperature": 0}')]
            gone_on = infer.ModelInfer(ModelInferRequest(model_name="bot", inputs=texts))
            error = refusal(talk.Chat, asked("nacre " * 3000), metadata=())
        over_rest = chat(server.url, QUESTION, temperature=0, seed=1)
        body = {"model": "bot", "prompt": QUESTION, "temperature": 0}
        text = send(server.url, "/v1/completions", body).body["choices"][0]["text"]
    assert whole.choices[0].content == over_rest.text == ANSWERS[0]
    assert "".join(chunk.choice.content for chunk in pieces) == ANSWERS[0]
    assert whole.usage.completion_tokens == over_rest.body["usage"]["completion_tokens"]
    assert gone_on.outputs[0].contents.bytes_contents[0].decode() == text
    assert told(error)["x-nacre-error-code"] == "context_length_exceeded"

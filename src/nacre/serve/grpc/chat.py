"""``nacre.v1.Chat``: the chat of the API, with its request and answer as messages."""

import time
from contextlib import aclosing
from typing import Any

import orjson
from google.protobuf.message import Message

from nacre.base.errors import NacreError
from nacre.serve.api.answer import Answer
from nacre.serve.api.chat import parse_chat
from nacre.serve.api.completion import accepted, told
from nacre.serve.api.shapes import ChatShape
from nacre.serve.engines import Delta
from nacre.serve.gateway.body import json_object
from nacre.serve.gateway.errors import invalid
from nacre.serve.grpc import chat_pb2 as pb
from nacre.serve.grpc.call import Call

_OWN = {"stream", "stream_options"}  # which of the two methods is called says it


async def chat(call: Call) -> Message | None:
    """The whole answer."""
    answer = await _begun(call, stream=False)
    try:
        await answer.collect()
    except NacreError as error:
        raise told(error, answer.asked.body) from error
    if answer.aborted:
        return None
    await call.begin(answer.headers(""))
    choices = [_choice(answer.shape.answer(choice, answer.with_logprobs)) for choice in answer.choices]
    return pb.ChatResponse(head=_head(answer), choices=choices, usage=_usage(answer))


async def chat_stream(call: Call) -> None:
    """The answer piece by piece. Its head comes with the first piece, the counts with the end of the last choice."""
    answer = await _begun(call, stream=True)
    await call.begin(answer.headers(""))
    chunk = pb.ChatChunk(head=_head(answer))
    try:
        async with aclosing(answer.pieces()) as pieces:
            async for choice, piece in pieces:
                if isinstance(piece, Delta):
                    chunk.choice.CopyFrom(_choice(answer.shape.piece(choice, piece, answer.with_logprobs)))
                elif piece.reason == "aborted":
                    continue
                else:
                    chunk.choice.CopyFrom(_choice(answer.shape.ending(choice)))
                    if None not in answer.finishes:
                        chunk.usage.CopyFrom(_usage(answer))
                await call.say(chunk)
                chunk = pb.ChatChunk()
    except NacreError as error:
        call.error = told(error, answer.asked.body)


async def _begun(call: Call, *, stream: bool) -> Answer:
    """Understand the request, and have the engine accept it.

    Raises:
        ApiError: it is wrong, or not accepted.
    """
    started_s = time.monotonic()
    request = await call.read(pb.ChatRequest)
    if not isinstance(request, pb.ChatRequest):
        raise invalid("the request is missing", code="invalid_message")
    body = parse_chat(_body(request) | {"stream": stream})
    answer = await accepted(call.service, body, ChatShape(), call.caller, wanted=call.wishes(), started_s=started_s)
    call.answers(answer)
    return answer


def _body(request: pb.ChatRequest) -> dict[str, Any]:
    """As ``POST /v1/chat/completions`` would have it.

    Raises:
        ApiError: what should be JSON is none, or a key is said twice.
    """
    given: dict[str, Any] = {"model": request.model, "messages": [_turn(turn) for turn in request.messages]}
    for field, value in request.sampling.ListFields():
        given[field.name] = list(value) if field.name == "stop" else value
    if request.user:
        given["user"] = request.user
    if request.HasField("store"):
        given["store"] = request.store
    more = json_object(request.options.encode()) if request.options else {}
    for name in more:
        if name in given or name in _OWN:
            raise invalid(f"'{name}' in 'options' has a place of its own", "options", "invalid_value")
    return given | more


def _turn(turn: pb.Message) -> dict[str, Any]:
    """One message of the conversation.

    Raises:
        ApiError: its calls are no JSON.
    """
    said: dict[str, Any] = {field.name: value for field, value in turn.ListFields()}
    if turn.HasField("content"):
        said["content"] = turn.content
    if turn.tool_calls:
        wrapped = json_object(b'{"calls":' + turn.tool_calls.encode() + b"}")
        if set(wrapped) != {"calls"}:
            raise invalid("'tool_calls' must be a JSON list", "messages", "invalid_json")
        said["tool_calls"] = wrapped["calls"]
    return said


def _head(answer: Answer) -> pb.Head:
    head = answer.head("")
    return pb.Head(
        response_id=head["id"],
        model=head["model"],
        version=answer.route.target.label,
        arm=answer.route.arm,
        created=head["created"],
        system_fingerprint=head["system_fingerprint"],
        response_ids=answer.asked.ids,
        ignored=answer.asked.body.ignored_names(),
    )


def _choice(told: dict[str, Any]) -> pb.Choice:
    """A choice as OpenAI's API has it, whole or a piece of it."""
    said = told.get("message") or told["delta"]
    return pb.Choice(
        index=told["index"],
        content=said.get("content") or "",
        finish_reason=told["finish_reason"] or "",
        tool_calls=_json(said.get("tool_calls")),
        logprobs=_json(told["logprobs"]),
    )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode() if value else ""


def _usage(answer: Answer) -> pb.Usage:
    usage = answer.usage()
    return pb.Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
    )

"""``inference.GRPCInferenceService``: the Open Inference Protocol, version 2, and Triton's stream of it."""

import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from google.protobuf.message import Message

from nacre import __version__
from nacre.base.errors import NacreError
from nacre.serve.api.answer import Answer
from nacre.serve.api.chat import parse_chat
from nacre.serve.api.completion import accepted, told
from nacre.serve.api.parts import AnswerRequest
from nacre.serve.api.shapes import ChatShape, Choice, Shape, TextShape
from nacre.serve.api.text import parse_completion
from nacre.serve.engines import Delta
from nacre.serve.gateway.callers import Caller
from nacre.serve.gateway.errors import ApiError, invalid
from nacre.serve.grpc import inference_pb2 as pb
from nacre.serve.grpc.call import Call
from nacre.serve.grpc.tensors import INPUTS, OUTPUTS, body_of, outputs_of, said

_LAST = "triton_final_response"  # how Triton's clients see that a request's last answer has come


async def server_live(call: Call) -> Message | None:
    """Whether the process answers."""
    await _asked(call, pb.ServerLiveRequest)
    return pb.ServerLiveResponse(live=True)


async def server_ready(call: Call) -> Message | None:
    """Whether some version answers."""
    await _asked(call, pb.ServerReadyRequest)
    return pb.ServerReadyResponse(ready=call.service.live().champion is not None)


async def model_ready(call: Call) -> Message | None:
    """Whether a name is answered now."""
    request = await _asked(call, pb.ModelReadyRequest)
    try:
        call.service.route(_name(request.name, request.version), "")
    except ApiError:
        return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=True)


async def server_metadata(call: Call) -> Message | None:
    """What this is."""
    await _asked(call, pb.ServerMetadataRequest)
    return pb.ServerMetadataResponse(name="nacre", version=__version__, extensions=["model_stream_infer"])


async def model_metadata(call: Call) -> Message | None:
    """The tensors of a name, and the versions that are loaded."""
    request = await _asked(call, pb.ModelMetadataRequest)
    service = call.service
    service.route(_name(request.name, request.version), "")
    kind = pb.ModelMetadataResponse.TensorMetadata
    versions = sorted({target.label for target in service.live().slots.values()})
    inputs = [kind(name=name, datatype=datatype, shape=[most]) for name, (datatype, most) in INPUTS.items()]
    outputs = [kind(name=name, datatype="BYTES", shape=[-1]) for name in OUTPUTS]
    return pb.ModelMetadataResponse(
        name=request.name, versions=versions, platform="nacre", inputs=inputs, outputs=outputs
    )


async def model_infer(call: Call) -> Message | None:
    """The whole answers to one request."""
    started_s = time.monotonic()
    request = await _asked(call, pb.ModelInferRequest)
    wanted = outputs_of(request)
    answer = await _begun(call, request, started_s, streamed=False)
    try:
        await answer.collect()
    except NacreError as error:
        raise told(error, answer.asked.body) from error
    if answer.aborted:
        return None
    await call.begin(answer.headers(""))
    return _whole(request, answer, wanted)


async def model_stream_infer(call: Call) -> None:
    """The answers to several requests, one after the other, in pieces; errors are told beside the answers.

    The first request is counted with the call, each further one by itself.
    """
    await call.begin([])
    request = await call.read(pb.ModelInferRequest)
    first = True
    while isinstance(request, pb.ModelInferRequest) and not call.gone:
        try:
            with _counted(None if first else call.caller):
                await _streamed(call, request)
        except ApiError as error:
            await call.say(
                pb.ModelStreamInferResponse(
                    error_message=error.message, infer_response=pb.ModelInferResponse(id=request.id)
                )
            )
        first = False
        try:
            request = await call.read(pb.ModelInferRequest, call.service.settings.wire.idle_s)
        except ApiError as error:
            call.error = error
            return


async def _streamed(call: Call, request: pb.ModelInferRequest) -> None:
    started_s = time.monotonic()
    wanted = outputs_of(request)
    answer = await _begun(call, request, started_s, streamed=True)
    whole = not answer.asked.body.stream
    if not whole and len(answer.choices) > 1:
        answer.cancel()
        raise invalid("only one answer can be sent in pieces", "text_input", "invalid_value")
    try:
        async with aclosing(answer.pieces()) as pieces:
            async for choice, piece in pieces:
                if whole or answer.aborted:
                    continue
                reply = _piece(request, answer, wanted, choice, piece.text if isinstance(piece, Delta) else "")
                await call.say(pb.ModelStreamInferResponse(infer_response=reply))
    except NacreError as error:
        raise told(error, answer.asked.body) from error
    if whole and not answer.aborted:
        reply = _whole(request, answer, wanted)
        reply.parameters[_LAST].bool_param = True
        await call.say(pb.ModelStreamInferResponse(infer_response=reply))


async def _begun(call: Call, request: pb.ModelInferRequest, started_s: float, *, streamed: bool) -> Answer:
    """Have the engine accept a request.

    Raises:
        ApiError: it is wrong, or not accepted.
    """
    given = body_of(request, streamed=streamed)
    body: AnswerRequest
    shape: Shape
    if "messages" in given:
        body, shape = parse_chat(given), ChatShape()
    else:
        body, shape = parse_completion(given), TextShape()
    answer = await accepted(call.service, body, shape, call.caller, wanted=call.wishes(), started_s=started_s)
    call.answers(answer)
    return answer


def _whole(request: pb.ModelInferRequest, answer: Answer, wanted: tuple[str, ...]) -> pb.ModelInferResponse:
    columns = {
        "text_output": [choice.text for choice in answer.choices],
        "finish_reason": [choice.reason for choice in answer.choices],
    }
    return _reply(request, answer, {name: columns[name] for name in wanted})


def _piece(
    request: pb.ModelInferRequest, answer: Answer, wanted: tuple[str, ...], choice: Choice, text: str
) -> pb.ModelInferResponse:
    """A piece of the one answer; its end has no text and the reason."""
    columns = {"text_output": [text], "finish_reason": [choice.reason]}
    reply = _reply(request, answer, {name: columns[name] for name in wanted})
    reply.parameters[_LAST].bool_param = bool(choice.reason)
    return reply


def _reply(request: pb.ModelInferRequest, answer: Answer, columns: dict[str, list[str]]) -> pb.ModelInferResponse:
    """The answer with who gave it."""
    route = answer.route
    reply = pb.ModelInferResponse(model_name=request.model_name, model_version=route.target.label, id=request.id)
    reply.parameters["arm"].string_param = route.arm
    reply.parameters["response_id"].string_param = ", ".join(answer.asked.ids)
    ignored = answer.asked.body.ignored_names()
    if ignored:
        reply.parameters["ignored"].string_param = ", ".join(ignored)
    said(reply, columns, raw=bool(request.raw_input_contents))
    return reply


@contextmanager
def _counted(caller: Caller | None) -> Iterator[None]:
    """A further request of the same call.

    Raises:
        ApiError: its key may not ask so much.
    """
    if caller is None:
        yield
        return
    caller.meter.admit()
    try:
        yield
    finally:
        caller.meter.release()


async def _asked(call: Call, kind: type[Message]) -> Any:
    """The one message of a call, of that kind.

    Raises:
        ApiError: there is none.
    """
    request = await call.read(kind)
    if request is None:
        raise invalid("the request is missing", code="invalid_message")
    return request


def _name(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name

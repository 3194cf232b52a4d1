"""The tensors of the Open Inference Protocol as the body of a request to the API, and answers as tensors."""

import struct
from collections.abc import Iterator
from typing import Any

from nacre.serve.gateway.body import json_object
from nacre.serve.gateway.errors import ApiError, invalid
from nacre.serve.grpc import inference_pb2 as pb

TEXT, MESSAGES, SAMPLING, STREAM = "text_input", "messages", "sampling_parameters", "stream"
INPUTS = {TEXT: ("BYTES", -1), MESSAGES: ("BYTES", 1), SAMPLING: ("BYTES", 1), STREAM: ("BOOL", 1)}
OUTPUTS = ("text_output", "finish_reason")
_MOST_DIMENSIONS = 8
_UNTOLD = {"tools", "tool_choice", "logprobs", "top_logprobs"}  # no output has what they ask for
_OWN = {"model", "prompt", "messages", "stream", "stream_options"}  # what says these stands elsewhere


def body_of(request: pb.ModelInferRequest, *, streamed: bool) -> dict[str, Any]:
    """The request as the API has it: with `messages` a chat, with `text_input` texts to go on with.

    Args:
        request: as it came.
        streamed: whether pieces may be sent.

    Raises:
        ApiError: 400 that names the tensor or the parameter.
    """
    tensors = dict(_tensors(request))
    if (TEXT in tensors) == (MESSAGES in tensors):
        raise invalid(f"one of the inputs '{TEXT}' and '{MESSAGES}' is needed", "inputs", "missing_required_parameter")
    version = f"@{request.model_version}" if request.model_version else ""
    body: dict[str, Any] = {name: _value(given) for name, given in request.parameters.items()}
    if SAMPLING in tensors:
        body |= _json(tensors[SAMPLING][0], SAMPLING)
    for name in body:
        if name in _OWN:
            raise invalid(f"'{name}' is no parameter here", name, "invalid_value")
        if name in _UNTOLD:
            raise invalid(f"'{name}' is not supported over this protocol", name, "unsupported_parameter")
    wanted = bool(tensors[STREAM][0]) if STREAM in tensors else streamed
    if wanted and not streamed:
        raise invalid("pieces come from ModelStreamInfer alone", STREAM, "invalid_value")
    body |= {"model": request.model_name + version, "stream": wanted}
    if TEXT in tensors:
        return body | {"prompt": [_text(one, TEXT) for one in tensors[TEXT]]}
    return body | _json(b'{"messages":' + tensors[MESSAGES][0] + b"}", MESSAGES, {"messages"})


def outputs_of(request: pb.ModelInferRequest) -> tuple[str, ...]:
    """Which outputs are wanted; all where none is named.

    Raises:
        ApiError: there is no such output.
    """
    names = tuple(one.name for one in request.outputs)
    for name in names:
        if name not in OUTPUTS:
            raise invalid(f"there is no output '{name[:80]}'; known: {', '.join(OUTPUTS)}", "outputs", "invalid_value")
    return names or OUTPUTS


def said(reply: pb.ModelInferResponse, columns: dict[str, list[str]], *, raw: bool) -> None:
    """Put texts into an answer.

    Args:
        reply: the answer.
        columns: the texts of each output.
        raw: whether as bytes beside the tensors, as the request had its own.
    """
    for name, texts in columns.items():
        tensor = reply.outputs.add(name=name, datatype="BYTES", shape=[len(texts)])
        items = [text.encode("utf-8", "surrogatepass") for text in texts]
        if raw:
            reply.raw_output_contents.append(b"".join(struct.pack("<I", len(item)) + item for item in items))
        else:
            tensor.contents.bytes_contents.extend(items)


def _tensors(request: pb.ModelInferRequest) -> Iterator[tuple[str, list[Any]]]:
    """The elements of each input."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise invalid("raw_input_contents needs one entry for each input", "raw_input_contents", "invalid_value")
    seen: set[str] = set()
    for place, tensor in enumerate(request.inputs):
        if tensor.name not in INPUTS:
            raise invalid(f"there is no input '{tensor.name[:80]}'; known: {', '.join(INPUTS)}", "inputs")
        if tensor.name in seen:
            raise invalid(f"the input '{tensor.name}' is there twice", tensor.name, "invalid_value")
        seen.add(tensor.name)
        kind, most = INPUTS[tensor.name]
        if tensor.datatype != kind:
            raise invalid(f"the input '{tensor.name}' must be {kind}", tensor.name, "invalid_value")
        items = _elements(tensor, raw[place] if raw else None)
        if len(tensor.shape) > _MOST_DIMENSIONS:  # their product would take minutes, and their list the answer
            what = f"the input '{tensor.name}' has {len(tensor.shape)} dimensions, {_MOST_DIMENSIONS} are known"
            raise invalid(what, tensor.name, "invalid_value")
        count = 1
        for length in tensor.shape:
            count *= length
        if len(items) != count or not items or (most > 0 and len(items) > most):
            shape = list(tensor.shape)
            message = f"the input '{tensor.name}' has {len(items)} elements, which its shape {shape} does not fit"
            raise invalid(message if not 0 < most < len(items) else f"{message} or one", tensor.name, "invalid_value")
        yield tensor.name, items


def _elements(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> list[Any]:
    if tensor.datatype == "BOOL":
        return list(tensor.contents.bool_contents) if raw is None else [byte != 0 for byte in raw]
    if raw is None:
        return list(tensor.contents.bytes_contents)
    items, place = [], 0
    while place < len(raw):
        head = raw[place : place + 4]
        length = struct.unpack("<I", head)[0] if len(head) == 4 else len(raw)
        place += 4 + length
        if place > len(raw):
            raise invalid(f"the bytes of the input '{tensor.name}' end too early", tensor.name, "invalid_value")
        items.append(raw[place - length : place])
    return items


def _value(given: pb.InferParameter) -> Any:
    chosen = given.WhichOneof("parameter_choice")
    return getattr(given, chosen) if chosen else None


def _text(item: bytes, name: str) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise invalid(f"the input '{name}' is not UTF-8", name, "invalid_value") from None


def _json(raw: bytes, name: str, only: set[str] | None = None) -> dict[str, Any]:
    """The JSON object of an input, with these keys alone where they are given.

    Raises:
        ApiError: 400 that names it.
    """
    try:
        found = json_object(raw)
    except ApiError:
        found = None
    if found is None or (only is not None and set(found) != only):
        raise invalid(f"the input '{name}' is not the JSON that is expected", name, "invalid_json")
    return found

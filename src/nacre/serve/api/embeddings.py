"""``POST /v1/embeddings``: texts as vectors, where the engine can."""

import asyncio
import base64
from array import array
from collections.abc import Coroutine, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import orjson
from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from nacre.base.errors import NacreError
from nacre.serve.api.answer import version_headers
from nacre.serve.api.completion import check_strict
from nacre.serve.api.parts import Part, parsed
from nacre.serve.api.text import Inputs, text_or_ids
from nacre.serve.engines import Embeddings, TextPrompt
from nacre.serve.gateway.body import read_json
from nacre.serve.gateway.errors import ApiError, from_nacre
from nacre.serve.routing import user_of
from nacre.serve.service import Service

T = TypeVar("T")


class EmbeddingRequest(Part):
    """The body of ``POST /v1/embeddings``, after OpenAI's reference."""

    harmless: ClassVar[Mapping[str, tuple[Any, ...]]] = {"dimensions": ()}

    model: str = Field(max_length=200)
    input: Annotated[list[TextPrompt], BeforeValidator(text_or_ids, json_schema_input_type=Inputs)]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = Field(default=None, max_length=512)


async def create_embeddings(request: Request) -> Response:
    """One vector for each input."""
    service: Service = request.app.state.service
    body = parsed(EmbeddingRequest, await read_json(request, service.settings.max_body_bytes))
    ignored = sorted(set(body.ignored()))
    check_strict(service, ignored)
    if "embeddings" not in service.engine.features:
        raise ApiError(404, "this server's engine makes no embeddings", code="not_found")
    identity = service.signer.new("embd")
    route = service.route(body.model, user_of(request.state.key_id or "", body.user or "") or identity)
    try:
        made = await _unless_gone(request, service.engine.embed(route.target, body.input))
    except ApiError:  # the client went away: the work was done for it all the same
        request.state.caller.meter.charge(_estimated(body.input))
        raise
    except NacreError as error:
        told = from_nacre(error)
        told.param = "input" if told.status == 400 else None
        raise told from error
    request.state.caller.meter.charge(made.tokens)
    headers = version_headers(route) | {"x-nacre-response-id": identity}
    if ignored:
        headers["x-nacre-ignored"] = ", ".join(ignored)
    told_body = _body(made, service.full_name(route.target), body.encoding_format)
    return Response(orjson.dumps(told_body), headers=headers, media_type="application/json")


def _body(made: Embeddings, model: str, encoding: str) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if encoding == "base64" else vector}
        for index, vector in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _estimated(inputs: Sequence[TextPrompt]) -> int:
    """Tokens of inputs that nobody has counted: a token for four bytes of text."""
    return sum(
        len(prompt.text) if not isinstance(prompt.text, str) else 1 + len(prompt.text.encode("utf-8", "replace")) // 4
        for prompt in inputs
    )


def _base64(vector: tuple[float, ...]) -> str:
    """Little-endian float32, as OpenAI's client reads it."""
    numbers = array("f", vector)
    if array("H", [1]).tobytes() != b"\x01\x00":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work; a client that goes away stops it.

    Raises:
        ApiError: 499, the client went away.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.create_task(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(499, "the client went away", code="client_closed_request")
    finally:
        working.cancel()
        watching.cancel()

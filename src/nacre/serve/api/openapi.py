"""``GET /openapi.json``: the API described by itself (OpenAPI 3.1), made of the models that requests are read with."""

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse

from nacre import __version__
from nacre.serve.api.chat import ChatRequest
from nacre.serve.api.embeddings import EmbeddingRequest
from nacre.serve.api.feedback import FeedbackBody
from nacre.serve.api.parts import Part
from nacre.serve.api.replies import (
    ChatReply,
    EmbeddingsReply,
    ErrorReply,
    FeedbackReply,
    ModelReply,
    ModelsReply,
    TextReply,
)
from nacre.serve.api.text import CompletionRequest

_PLACE = "#/components/schemas/{model}"

# path, method: what is asked, what is answered, whether streams are, and one sentence.
_ROUTES: dict[tuple[str, str], tuple[type[BaseModel] | None, type[BaseModel], bool, str]] = {
    ("/v1/models", "get"): (None, ModelsReply, False, "The names that are answered now"),
    ("/v1/models/{name}", "get"): (None, ModelReply, False, "One of them, with its version"),
    ("/v1/chat/completions", "post"): (ChatRequest, ChatReply, True, "Answer a conversation"),
    ("/v1/completions", "post"): (CompletionRequest, TextReply, True, "Go on with a text or token ids"),
    ("/v1/embeddings", "post"): (EmbeddingRequest, EmbeddingsReply, False, "Texts as vectors"),
    ("/v1/feedback", "post"): (FeedbackBody, FeedbackReply, False, "Say something about an answer"),
}
ERRORS = {
    "400": "the request is wrong: `param` names where",
    "401": "the key is missing or wrong",
    "403": "the key does not open this route",
    "404": "no such model, answer or ability",
    "408": "the body came too slowly",
    "413": "the body is too long",
    "429": "too much was asked for with this key",
    "500": "internal error, without any detail but the request's id",
    "503": "nothing can answer now: try again after `Retry-After` seconds",
}


async def openapi(request: Request) -> JSONResponse:
    """The document."""
    return JSONResponse(document())


@cache
def document() -> dict[str, Any]:
    """The API as an OpenAPI 3.1 document."""
    asked = [kind for kind, _, _, _ in _ROUTES.values() if kind is not None]
    told: list[type[BaseModel]] = [*(kind for _, kind, _, _ in _ROUTES.values()), ErrorReply]
    kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = [(kind, "validation") for kind in asked]
    kinds += [(kind, "serialization") for kind in told]
    places, schemas = models_json_schema(kinds, ref_template=_PLACE)
    for kind in asked:
        _as_read(schemas["$defs"][places[kind, "validation"]["$ref"].rpartition("/")[2]], kind)
    paths: dict[str, Any] = {}
    for (path, method), (body, reply, streams, what) in _ROUTES.items():
        wanted = places[body, "validation"] if body else None
        paths.setdefault(path, {})[method] = _operation(path, what, wanted, places[reply, "serialization"], streams)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nacre", "version": __version__, "description": "The released version, as OpenAI's API."},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(path: str, what: str, body: Any, reply: Any, streams: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": reply}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": {"$ref": _PLACE.format(model=ErrorReply.__name__)}}}
    made: dict[str, Any] = {
        "summary": what,
        "responses": {
            "200": {"description": "the answer", "content": content},
            **{status: {"description": why, "content": error} for status, why in ERRORS.items()},
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if "{name}" in path:
        made["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    return made


def _as_read(schema: dict[str, Any], kind: type[BaseModel]) -> None:
    """Say of a request's schema what reading it adds: null is as good as nothing; some keys take harmless values."""
    if not issubclass(kind, Part):
        return
    for name, shape in schema["properties"].items():
        if name not in schema.get("required", ()) and {"type": "null"} not in shape.get("anyOf", ()):
            schema["properties"][name] = {"anyOf": [shape, {"type": "null"}]}
    for name, harmless in kind.harmless.items():
        schema["properties"][name] = {"enum": [*harmless, None], "description": "not served: no other value is taken"}

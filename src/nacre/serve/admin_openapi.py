"""``GET /admin/openapi.json``: the admin API described by itself (OpenAPI 3.1), made of the models it reads with."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nacre import __version__
from nacre.serve.admin import ACTIONS, Back, Move, NewKey, Rotation, Start, may_steer
from nacre.serve.admin_drafts import DraftEdit, DraftJudgement, DraftWriting
from nacre.serve.admin_evolution import STATUSES, Judgement
from nacre.serve.api.openapi import ERRORS
from nacre.serve.api.replies import ErrorReply
from nacre.serve.gateway.metrics import CONTENT_TYPE

_PLACE = "#/components/schemas/{model}"
_ANY: dict[str, Any] = {}
_NUMBER = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_TEXT = {"type": "string"}
_LANGUAGES = {"type": "string", "enum": ["en", "zh"]}
_KEY = ("id", "name", "scopes", "limits")


class _Told(NamedTuple):
    """One operation.

    Attributes:
        what: one sentence.
        names: what its answer always has; none: it is a page or a text, of the type `kind`.
        body: what is asked; None: it takes no body.
        query: parameters by name, none of which is needed.
    """

    what: str
    names: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    query: Mapping[str, Any] = MappingProxyType({})
    kind: str = "application/json"


_HTML = "text/html; charset=utf-8"
_ROUTES: dict[tuple[str, str], _Told] = {
    ("/metrics", "get"): _Told("The numbers for Prometheus", kind=CONTENT_TYPE),
    ("/admin/release", "get"): _Told("Where the release is", ("active", "slots", "releases")),
    **{
        (f"/admin/release/{action}", "post"): _Told(
            f"Steer the release: {action}", body=Start if action == "start" else Move
        )
        for action in ACTIONS
    },
    ("/admin/promote", "post"): _Told("A version becomes champion at once", ("version", "generation"), Start),
    ("/admin/rollback", "post"): _Told("The champion before is champion again", ("version", "generation"), Back),
    ("/admin/slots", "get"): _Told("Who is in which slot, and what answers", ("slots", "answering", "troubles")),
    ("/admin/versions", "get"): _Told("Every version, shortly", ("versions",)),
    ("/admin/versions/{number}", "get"): _Told("One version, whole", ("number", "kind", "parents", "recipe")),
    ("/admin/versions/{number}/flips", "get"): _Told(
        "What it lost and gained, row by row", ("version", "against", "verdict")
    ),
    ("/admin/versions/{number}/report", "get"): _Told(
        "Its evolution report, a page", query={"lang": _LANGUAGES}, kind=_HTML
    ),
    ("/admin/versions/{number}/curves", "get"): _Told("The log of its training", ("version", "task", "points")),
    ("/admin/keys", "get"): _Told("Every key with what it has used", ("keys",)),
    ("/admin/keys", "post"): _Told("Make a key; the answer alone has its secret", (*_KEY, "secret"), NewKey),
    ("/admin/keys/{key}/rotate", "post"): _Told("Give it a new secret", (*_KEY, "secret"), Rotation),
    ("/admin/keys/{key}/revoke", "post"): _Told("Take it back", _KEY),
    ("/admin/matrix", "get"): _Told(
        "Scores of versions on tasks", ("kind", "grid", "figures", "notes"), query={"version": _NUMBER}
    ),
    ("/admin/lineage", "get"): _Told("Which version came from which", ("nodes",)),
    ("/admin/pairs", "get"): _Told("What champion and shadow answered to the same requests", ("pairs",)),
    ("/admin/trainings", "get"): _Told("The logs of trainings under way", ("trainings",)),
    ("/admin/feedback", "get"): _Told(
        "The newest opinions",
        ("counts", "found", "feedback"),
        query={"status": {"type": "string", "enum": list(STATUSES)}},
    ),
    ("/admin/feedback", "post"): _Told("Accept opinions, or reject them", ("ids", "status"), Judgement),
    ("/admin/drafts", "get"): _Told(
        "Rows that wait for a person", ("queues", "queue", "drafts"), query={"queue": _TEXT}
    ),
    ("/admin/drafts", "post"): _Told("Accept rows, or reject them", ("ids", "status"), DraftJudgement),
    ("/admin/drafts/{number}", "post"): _Told(
        "Accept a row as it is written here", ("id", "status", "question", "answer"), DraftEdit
    ),
    ("/admin/drafts/write", "post"): _Told(
        "Make a queue's accepted rows an increment", ("queue", "file", "rows"), DraftWriting
    ),
    ("/admin/increments", "get"): _Told("Names of the workspace's datasets", ("increments",)),
    ("/admin/increments/{name}/report", "get"): _Told(
        "Its data report, a page", query={"lang": _LANGUAGES}, kind=_HTML
    ),
}


async def openapi(request: Request) -> JSONResponse:
    """The document; for those who may use what it describes."""
    may_steer(request)
    return JSONResponse(document())


DOCUMENT_ROUTE = Route("/admin/openapi.json", openapi, methods=["GET"])


@cache
def document() -> dict[str, Any]:
    """The admin API as an OpenAPI 3.1 document."""
    asked = list(dict.fromkeys(told.body for told in _ROUTES.values() if told.body is not None))
    kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = [(kind, "validation") for kind in asked]
    kinds.append((ErrorReply, "serialization"))
    places, schemas = models_json_schema(kinds, ref_template=_PLACE)
    paths: dict[str, Any] = {}
    for (path, method), told in _ROUTES.items():
        body = places[told.body, "validation"] if told.body else None
        paths.setdefault(path, {})[method] = _operation(path, told, body, places[ErrorReply, "serialization"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nacre admin",
            "version": __version__,
            "description": "Releases, versions, keys, opinions and reports. Every route needs a key of scope `admin`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(path: str, told: _Told, body: Any, error: Any) -> dict[str, Any]:
    reply: dict[str, Any] = {"type": "string"}
    if told.kind == "application/json":
        reply = {"type": "object", "required": list(told.names), "properties": dict.fromkeys(told.names, _ANY)}
    wrong = {"application/json": {"schema": error}}
    made: dict[str, Any] = {
        "summary": told.what,
        "responses": {
            "200": {"description": "the answer", "content": {told.kind: {"schema": reply}}},
            **{status: {"description": why, "content": wrong} for status, why in ERRORS.items()},
            "409": {"description": "somebody was faster, or it is being done already", "content": wrong},
        },
    }
    if body is not None:
        needed = bool(told.body and any(field.is_required() for field in told.body.model_fields.values()))
        made["requestBody"] = {"required": needed, "content": {"application/json": {"schema": body}}}
    named = [("number", _NUMBER), ("name", _TEXT), ("key", _TEXT)]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in named
        if f"{{{name}}}" in path
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in told.query.items()]
    return made | ({"parameters": parameters} if parameters else {})

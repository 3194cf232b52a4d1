"""The admin API: releases, slots, versions, keys, and the numbers for Prometheus. Every route needs the scope admin.

What a move of a release asks (the gate's word, what the answers show) is known above this floor: those moves come in as
callables, and this file only reads what is sent and tells what came of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, StrictBool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nacre.base.config import Settings, parse
from nacre.base.errors import ConflictError, InputError, NacreError
from nacre.records.key import Limits
from nacre.registry.ledger import Ledger
from nacre.serve.gateway.body import read_json
from nacre.serve.gateway.errors import ApiError, sent_aside, unavailable
from nacre.serve.gateway.metrics import CONTENT_TYPE
from nacre.serve.service import Service

_MOST_BYTES = 64 * 1024

_LARGEST = 2**31 - 1  # a number that the ledger's database can hold
Number = Annotated[int, Field(strict=True, ge=1, le=_LARGEST)]

Endpoint = Callable[[Request], Awaitable[Response]]
B = TypeVar("B", bound=Settings)
T = TypeVar("T")


class Move(Settings):
    """A move of the active release."""

    why: str = Field("by the admin API", max_length=500)
    force: StrictBool = False


class Start(Move):
    """Which version is released or promoted."""

    version: Number


class Back(Settings):
    """The champion is taken back, to the one before or to `to`."""

    why: str = Field("by the admin API", max_length=500)
    to: Number | None = None


class NewKey(Settings):
    """A key to be made."""

    name: str
    scopes: tuple[str, ...] = ("infer", "feedback")
    limits: Limits = Limits()
    expires_s: float | None = None


class Rotation(Settings):
    """For how long the present secret still opens."""

    grace_s: float = Field(0, ge=0)


_BODIES: dict[str, type[Settings]] = {"start": Start, "promote champion": Start, "rollback champion": Back}
ACTIONS = ("start", "hold", "resume", "approve", "abort", "promote", "rollback", "tick")  # of a release


async def release_status(request: Request) -> JSONResponse:
    """Where the release is, what its answers show, and which moves are possible."""
    return await _steer(request, "status", {})


async def move_release(request: Request) -> JSONResponse:
    """One of `ACTIONS`."""
    action = request.path_params["action"]
    if action not in ACTIONS:
        raise ApiError(404, f"there is no move '{action[:40]}'; known: {', '.join(ACTIONS)}", code="not_found")
    return await _steer(request, action, (await read_body(request, _BODIES.get(action, Move))).model_dump())


async def promote_champion(request: Request) -> JSONResponse:
    """A version becomes champion for everybody, at once."""
    return await _steer(request, "promote champion", (await read_body(request, Start)).model_dump())


async def rollback_champion(request: Request) -> JSONResponse:
    """The champion before is champion again."""
    return await _steer(request, "rollback champion", (await read_body(request, Back)).model_dump())


async def list_slots(request: Request) -> JSONResponse:
    """What the ledger says, and what this server answers with."""
    service = _service(request)
    slots = await _do(lambda: _ledger(service).slots())
    answering = {slot: target.version for slot, target in service.live().slots.items()}
    told = {name: {"version": held.version, "generation": held.generation} for name, held in slots.items()}
    return JSONResponse({"slots": told, "answering": answering, "troubles": dict(service.troubles())})


async def list_versions(request: Request) -> JSONResponse:
    """Every version, shortly."""
    versions = await _do(lambda: _ledger(_service(request)).versions())
    told = [
        {"version": one.number, "kind": one.kind, "parents": list(one.parents), "created": one.created}
        | {"tasks": list(one.tasks)}
        for one in versions
    ]
    return JSONResponse({"versions": told})


async def show_version(request: Request) -> JSONResponse:
    """One version, whole."""
    number = number_of(request)
    found = await _do(lambda: _ledger(_service(request)).version(number))
    return JSONResponse(found.model_dump(mode="json"))


async def list_keys(request: Request) -> JSONResponse:
    """Every key with what it has used, without its secret."""
    keys = _ledger(_service(request)).keys
    held, used = await _do(lambda: (keys.all(), keys.use()))
    told = [
        one.key.model_dump(mode="json") | {"tokens": used[one.key.id].tokens if one.key.id in used else 0}
        for one in held
    ]
    return JSONResponse({"keys": told})


async def create_key(request: Request) -> JSONResponse:
    """Make a key; its secret stands in this answer and nowhere else."""
    keys, wanted, actor = _ledger(_service(request)).keys, await read_body(request, NewKey), _actor(request)
    limits, expires_s = wanted.limits, wanted.expires_s
    made, secret = await _do(
        lambda: keys.create(wanted.name, wanted.scopes, limits=limits, expires_s=expires_s, actor=actor)
    )
    return await _secret(request, made.model_dump(mode="json"), secret)


async def rotate_key(request: Request) -> JSONResponse:
    """Give a key a new secret."""
    keys, wanted, actor = _ledger(_service(request)).keys, await read_body(request, Rotation), _actor(request)
    identity = request.path_params["key"]
    made, secret = await _do(lambda: keys.rotate(identity, grace_s=wanted.grace_s, actor=actor))
    return await _secret(request, made.model_dump(mode="json"), secret)


async def revoke_key(request: Request) -> JSONResponse:
    """Take a key back; this server refuses it when this is answered, others a second later."""
    service, identity, actor = _service(request), request.path_params["key"], _actor(request)
    revoked = await _do(lambda: _ledger(service).keys.revoke(identity, actor=actor))
    await service.ring.refresh()
    return JSONResponse(revoked.model_dump(mode="json"))


async def metrics(request: Request) -> Response:
    """The numbers for Prometheus."""
    return Response(_service(request).metrics.text(), media_type=CONTENT_TYPE)


def either(get: Endpoint, post: Endpoint) -> Endpoint:
    """One endpoint for both methods of a path: of two routes a wrong method would be told the first one's alone."""

    async def endpoint(request: Request) -> Response:
        return await (post if request.method == "POST" else get)(request)

    return endpoint


METRICS_ROUTE = Route("/metrics", metrics, methods=["GET"])
ADMIN_ROUTES = [
    Route("/admin/release", release_status, methods=["GET"]),
    Route("/admin/release/{action}", move_release, methods=["POST"]),
    Route("/admin/promote", promote_champion, methods=["POST"]),
    Route("/admin/rollback", rollback_champion, methods=["POST"]),
    Route("/admin/slots", list_slots, methods=["GET"]),
    Route("/admin/versions", list_versions, methods=["GET"]),
    Route("/admin/versions/{number}", show_version, methods=["GET"]),
    Route("/admin/keys", either(list_keys, create_key), methods=["GET", "POST"]),
    Route("/admin/keys/{key}/rotate", rotate_key, methods=["POST"]),
    Route("/admin/keys/{key}/revoke", revoke_key, methods=["POST"]),
]


async def act(request: Request, action: str, given: Mapping[str, Any]) -> Any:
    """What one of `Service.actions` tells.

    Raises:
        ApiError: 403 without the scope admin, 404 where nothing is served but a folder, and as `_do` says.
    """
    actions = _service(request).actions
    if action not in actions:
        raise ApiError(404, "this server has no releases: it serves a folder without a ledger", code="not_found")
    actor = _actor(request)
    return await _do(lambda: actions[action](given, actor))


def may_steer(request: Request) -> None:
    """Let those pass who have a key of the scope admin.

    Raises:
        ApiError: 403, the request has none.
    """
    _service(request)


def number_of(request: Request) -> int:
    """The number in the path.

    Raises:
        ApiError: 404, it is none, or one that nothing can have.
    """
    told: str = request.path_params["number"]
    if not (told.isascii() and told.isdigit() and len(told) <= 10 and 0 < int(told) <= _LARGEST):
        raise ApiError(404, "there is nothing of this number", code="not_found")
    return int(told)


async def _steer(request: Request, action: str, given: Mapping[str, Any]) -> JSONResponse:
    return JSONResponse(await act(request, action, given))


async def _secret(request: Request, made: dict[str, Any], secret: str) -> JSONResponse:
    """The one answer in which a secret stands; this server knows the key from now on."""
    await _service(request).ring.refresh()
    return JSONResponse(made | {"secret": secret}, headers={"cache-control": "no-store"})


async def read_body(request: Request, kind: type[B]) -> B:
    """The request's body; none stands for an empty object."""
    empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    raw = {} if empty else await read_json(request, _MOST_BYTES)
    try:
        return parse(kind, raw, where="the request")
    except InputError as error:
        raise ApiError(400, sent_aside(error), code="invalid_value") from None


async def _do(work: Callable[[], T]) -> T:
    """Do it in a thread, and tell what is wrong with it as the API does.

    Raises:
        ApiError: 400 for a mistake, 409 where somebody was faster, 503 for what nobody here can help.
    """
    try:
        return await asyncio.to_thread(work)
    except ConflictError as error:
        raise ApiError(409, error.what, code="conflict") from error
    except InputError as error:
        raise ApiError(400, f"{error.what}; {error.fix}" if error.fix else error.what, code="refused") from error
    except NacreError as error:
        raise unavailable(error.what) from error


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    caller = request.state.caller
    open_here = request.url.path == METRICS_ROUTE.path and request.app.state.metrics_open
    if not open_here and (caller is None or "admin" not in caller.scopes):  # the gate has seen to it: once more
        raise ApiError(403, "this key does not open this: it lacks the scope 'admin'", code="missing_scope")
    return service


def _ledger(service: Service) -> Ledger:
    if service.memory is None:
        raise ApiError(404, "this server serves a folder without a ledger", code="not_found")
    return service.memory.ledger


def _actor(request: Request) -> str:
    return f"key {request.state.caller.id}"

"""The ASGI application: routes, and in front of them what every request passes."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from nacre.serve.admin import ADMIN_ROUTES, METRICS_ROUTE
from nacre.serve.admin_drafts import DRAFT_ROUTES
from nacre.serve.admin_evolution import EVOLUTION_ROUTES
from nacre.serve.admin_openapi import DOCUMENT_ROUTE
from nacre.serve.api.routes import ROUTES
from nacre.serve.gateway.front import Front
from nacre.serve.gateway.keys import HEALTH, METRICS, OPEN_PATHS, Gate
from nacre.serve.gateway.observe import Tracer
from nacre.serve.service import Service

ALL_ADMIN_ROUTES = [METRICS_ROUTE, *ADMIN_ROUTES, *EVOLUTION_ROUTES, *DRAFT_ROUTES, DOCUMENT_ROUTE]


def make_app(service: Service, tracer: Tracer | None = None) -> ASGIApp:
    """The API as an ASGI app. Starting and stopping what is in `service` is the caller's.

    The admin API is part of it where it has no listener of its own.
    """
    more = ALL_ADMIN_ROUTES if service.settings.admin_port is None else []
    return _app(service, [*ROUTES, Route(HEALTH, health, methods=["GET"]), *more], OPEN_PATHS, tracer)


def make_admin_app(service: Service) -> ASGIApp:
    """What listens on `admin_port`: the admin API for its keys, and numbers and health for everybody who reaches it."""
    routes = [Route(HEALTH, health, methods=["GET"]), *ALL_ADMIN_ROUTES]
    return _app(service, routes, OPEN_PATHS | {METRICS}, None)


def _app(service: Service, routes: list[Route], open_paths: frozenset[str], tracer: Tracer | None) -> ASGIApp:
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.metrics_open = METRICS in open_paths
    gate = Gate(service.ring, open_paths)
    return Front(app.router, gate, service.crowd, service.metrics, tracer, routes=routes, starlette=app)


async def health(request: Request) -> JSONResponse:
    """200 while something answers, else 503 with the reason. Details only for those who have a key."""
    service: Service = request.app.state.service
    live, problem = service.live(), service.problem()
    body: dict[str, Any] = {"status": "ok" if live.champion else "unavailable"}
    if request.state.key_id is not None:
        body |= {
            "model": service.settings.name,
            "version": live.champion.label if live.champion else None,
            "slots": {slot: target.label for slot, target in live.slots.items()},
            "waiting": service.engine.waiting,
            "dropped_interactions": service.memory.writer.dropped if service.memory else 0,
            "shadow_waiting": service.shadow.waiting if service.shadow else 0,
        }
        if service.knowledge is not None and service.knowledge.in_use:
            body["knowledge"] = {"snapshot": service.knowledge.snapshot, "problem": service.knowledge.problem}
        if troubles := service.troubles():
            body["troubles"] = dict(troubles)
        if problem:
            body["problem"] = problem
    return JSONResponse(body, 200 if live.champion else 503)

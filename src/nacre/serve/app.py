"""The ASGI application: routes, and around them request ids, a net for the unexpected, and keys."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nacre.serve.admin import ADMIN_ROUTES, METRICS_ROUTE
from nacre.serve.api.routes import ROUTES
from nacre.serve.gateway.errors import ApiError, on_any_error, on_api_error, on_http_error
from nacre.serve.gateway.ids import RequestIds
from nacre.serve.gateway.keys import HEALTH, METRICS, OPEN_PATHS, Door, KeyGate
from nacre.serve.gateway.observe import Observed, Tracer
from nacre.serve.service import Service


def make_app(service: Service, tracer: Tracer | None = None) -> Starlette:
    """The API as an ASGI app. Starting and stopping what is in `service` is the caller's.

    The admin API is part of it where it has no listener of its own.
    """
    more = [METRICS_ROUTE, *ADMIN_ROUTES] if service.settings.admin_port is None else []
    return _app(service, [*ROUTES, Route(HEALTH, health, methods=["GET"]), *more], OPEN_PATHS, tracer)


def make_admin_app(service: Service) -> Starlette:
    """What listens on `admin_port`: the admin API for its keys, and numbers and health for everybody who reaches it."""
    routes = [Route(HEALTH, health, methods=["GET"]), METRICS_ROUTE, *ADMIN_ROUTES]
    return _app(service, routes, OPEN_PATHS | {METRICS}, None)


def middleware(service: Service, open_paths: frozenset[str], tracer: Tracer | None) -> list[Middleware]:
    """What every request passes, the outermost first."""
    handlers = _HANDLERS | {Exception: on_any_error}
    return [
        Middleware(RequestIds),
        Middleware(Observed, metrics=service.metrics, tracer=tracer),
        Middleware(ExceptionMiddleware, handlers=handlers),
        Middleware(Door, crowd=service.crowd),
        Middleware(KeyGate, ring=service.ring, open_paths=open_paths),
    ]


_HANDLERS: dict[Any, Any] = {ApiError: on_api_error, HTTPException: on_http_error}


def _app(service: Service, routes: list[Route], open_paths: frozenset[str], tracer: Tracer | None) -> Starlette:
    app = Starlette(routes=routes, middleware=middleware(service, open_paths, tracer), exception_handlers=_HANDLERS)
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.metrics_open = METRICS in open_paths
    return app


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
        if troubles := service.troubles():
            body["troubles"] = dict(troubles)
        if problem:
            body["problem"] = problem
    return JSONResponse(body, 200 if live.champion else 503)

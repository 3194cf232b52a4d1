"""The ASGI application: routes, and around them request ids, a net for the unexpected, and keys."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nacre.serve.api.completion import create_completion
from nacre.serve.api.feedback import create_feedback
from nacre.serve.gateway.errors import ApiError, model_not_found, on_any_error, on_api_error, on_http_error
from nacre.serve.gateway.ids import RequestIds
from nacre.serve.gateway.keys import Keys
from nacre.serve.service import Service


def make_app(service: Service) -> Starlette:
    """The API as an ASGI app. Starting and stopping what is in `service` is the caller's."""
    handlers = {ApiError: on_api_error, HTTPException: on_http_error}
    app = Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/v1/models", list_models, methods=["GET"]),
            Route("/v1/models/{name}", retrieve_model, methods=["GET"]),
            Route("/v1/chat/completions", create_completion, methods=["POST"]),
            Route("/v1/feedback", create_feedback, methods=["POST"]),
        ],
        middleware=[
            Middleware(RequestIds),
            Middleware(ExceptionMiddleware, handlers=handlers | {Exception: on_any_error}),
            Middleware(Keys, keys=service.settings.api_keys),
        ],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    app.state.service = service
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
        }
        if problem:
            body["problem"] = problem
    return JSONResponse(body, 200 if live.champion else 503)


async def list_models(request: Request) -> JSONResponse:
    """The names that are answered now."""
    service: Service = request.app.state.service
    return JSONResponse({"object": "list", "data": [_model(name) for name in service.model_ids()]})


async def retrieve_model(request: Request) -> JSONResponse:
    """One of them."""
    service: Service = request.app.state.service
    name = request.path_params["name"]
    if name not in service.model_ids():
        raise model_not_found(name, service.model_ids())
    return JSONResponse(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "nacre"}

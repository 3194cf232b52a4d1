"""``GET /v1/models``: the names that are answered now, and how they answer."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from nacre.serve.api.defaults import defaults_of
from nacre.serve.gateway.errors import model_not_found
from nacre.serve.service import Service


async def list_models(request: Request) -> JSONResponse:
    """The names that are answered now."""
    service: Service = request.app.state.service
    return JSONResponse({"object": "list", "data": [_model(name) for name in service.model_ids()]})


async def retrieve_model(request: Request) -> JSONResponse:
    """One of them, with the version behind it and what holds where a request says nothing."""
    service: Service = request.app.state.service
    name = request.path_params["name"]
    if name not in service.model_ids():
        raise model_not_found(name, service.model_ids())
    champion = service.live().champion
    target = champion if champion and name == service.settings.name else service.route(name, "").target
    defaults = defaults_of(target.weights, service.settings.defaults)
    return JSONResponse(_model(name) | {"version": target.label, "defaults": defaults.model_dump(exclude_none=True)})


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "nacre"}

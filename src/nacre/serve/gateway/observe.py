"""Where traces of requests go, and by what name a request's route is counted."""

from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Scope

from nacre.base.plugins import Table

TRACERS = Table("tracer", {"otlp": "nacre.serve.gateway.tracing:OtlpTracer"})  # needs the extra `otel`

_UNKNOWN = "(none)"  # the label of paths that are no route: a client must not make labels


class Tracer(Protocol):
    """Where traces go."""

    def request(self, scope: Scope, headers: Headers, seconds: float, status: int) -> None:
        """A request has ended; `scope` has its route, and `state` its ids and its key's."""

    def close(self) -> None:
        """Send what is left."""


def route_of(scope: Scope) -> str:
    """The route's own path, as ``/v1/models/{name}``."""
    return getattr(scope.get("route"), "path", _UNKNOWN)

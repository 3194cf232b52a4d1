"""What is measured of every request: how it ended and how long it took, in numbers, a log line, and a trace."""

import time
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nacre.base.plugins import Table
from nacre.serve.gateway.logs import tell
from nacre.serve.gateway.metrics import Metrics

TRACERS = Table("tracer", {"otlp": "nacre.serve.gateway.tracing:OtlpTracer"})  # needs the extra `otel`

_UNKNOWN = "(none)"  # the label of paths that are no route: a client must not make labels


class Tracer(Protocol):
    """Where traces go."""

    def request(self, scope: Scope, headers: Headers, seconds: float, status: int) -> None:
        """A request has ended; `scope` has its route, and `state` its ids and its key's."""

    def close(self) -> None:
        """Send what is left."""


class Observed:
    """ASGI middleware, the outermost: measures what all the others did."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self.app, self._metrics, self._tracer = app, metrics, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and tell how it ended. A status of 0: the client went away before there was one."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s, start = time.monotonic(), None

        async def send_and_see(message: Message) -> None:
            nonlocal start
            if start is None:  # the first message is the one with status and headers
                start = message
            await send(message)

        try:
            await self.app(scope, receive, send_and_see)
        finally:
            self._tell(scope, start or {}, time.monotonic() - started_s)

    def _tell(self, scope: Scope, start: Message, seconds: float) -> None:
        route, status = route_of(scope), start.get("status", 0)
        self._metrics.request(route, status, seconds)
        state = scope.get("state", {})
        fields = {
            "request": state.get("request_id", ""),
            "method": scope["method"],
            "route": route,
            "status": status,
            "key": state.get("key_id") or "",
            "seconds": round(seconds, 4),
        }
        tell("request", fields)
        if self._tracer is not None:
            self._tracer.request(scope, Headers(raw=start.get("headers", [])), seconds, status)


def route_of(scope: Scope) -> str:
    """The route's own path, as ``/v1/models/{name}``."""
    return getattr(scope.get("route"), "path", _UNKNOWN)

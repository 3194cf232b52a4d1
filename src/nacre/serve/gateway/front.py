"""What every request passes before a route sees it, in one piece: ids, a net for the unexpected, room, keys, numbers.

Middleware one around the other, each with an application and a `send` of its own, cost half of what a request cost.
"""

import time
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nacre.serve.gateway.callers import Meter
from nacre.serve.gateway.errors import reply_to
from nacre.serve.gateway.ids import request_id
from nacre.serve.gateway.keys import Crowd, Gate
from nacre.serve.gateway.logs import tell
from nacre.serve.gateway.metrics import Metrics
from nacre.serve.gateway.observe import Tracer, route_of

_VISIT = "nacre.visit"  # where a scope has it
_READ = frozenset({b"authorization", b"x-request-id", b"host", b"origin"})


class Front:
    """ASGI: lets requests in, passes them on, and tells how they ended.

    Every answer carries ``x-request-id``, the client's own where it sent a usable one. Sets in ``scope["state"]``
    `request_id`, `caller` and `key_id`; the latter are None when the request brought no key.

    Args:
        app: what answers.
        gate: knows the keys.
        crowd: counts the requests under way.
        metrics: is told of each.
        tracer: too, where there is one.
        routes: of `app`; those with an ASGI application of their own and a fixed path are called without a search.
        starlette: what requests find as their `app`.
    """

    def __init__(
        self,
        app: ASGIApp,
        gate: Gate,
        crowd: Crowd,
        metrics: Metrics,
        tracer: Tracer | None = None,
        *,
        routes: Iterable[BaseRoute] = (),
        starlette: Any = None,
    ) -> None:
        self._app, self._gate, self._crowd, self._metrics, self._tracer = app, gate, crowd, metrics, tracer
        self._direct = {
            (method, route.path): route
            for route in routes
            if isinstance(route, Route) and route.app is route.endpoint and "{" not in route.path
            for method in route.methods or ()
        }
        self._starlette = starlette

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. A status of 0: the client went away before there was one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = scope[_VISIT] = _Visit(scope, send)
        if self._starlette is not None:
            scope["app"] = self._starlette
        try:
            async with _Net(visit, scope, receive):
                await self._let_in(scope, receive, visit.send)
        finally:
            self._tell(visit, scope)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, visit = scope["path"], scope[_VISIT]
        counted, meter = self._crowd.enter(path), None
        try:
            caller = self._gate.find(visit.headers)
            scope["state"] |= {"caller": caller, "key_id": caller.id if caller else None}
            meter = self._gate.admit(caller, path, visit.headers)
            if meter is not None and meter.limited:
                visit.meter = meter
            route = self._direct.get((scope["method"], path))
            if route is None:
                await self._app(scope, receive, send)
            else:
                scope["route"] = route
                await route.app(scope, receive, send)
        finally:
            if counted:
                self._crowd.leave()
            if meter is not None:
                meter.release()

    def _tell(self, visit: "_Visit", scope: Scope) -> None:
        seconds = time.monotonic() - visit.started_s
        start: Message = visit.start or {}
        route, status, state = route_of(scope), start.get("status", 0), scope["state"]
        self._metrics.request(route, status, seconds)
        fields = {
            "request": visit.id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "key": state.get("key_id") or "",
            "seconds": round(seconds, 4),
        }
        tell("request", fields)
        if self._tracer is not None:
            self._tracer.request(scope, Headers(raw=start.get("headers", [])), seconds, status)


class _Net:
    """Answers with the error that its block is left by, whatever it is, where no answer has begun."""

    __slots__ = ("_receive", "_scope", "_visit")

    def __init__(self, visit: "_Visit", scope: Scope, receive: Receive) -> None:
        self._visit, self._scope, self._receive = visit, scope, receive

    async def __aenter__(self) -> None:
        """Nothing yet."""

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Whether the error was told."""
        if not isinstance(error, Exception):
            return False
        if self._visit.start is not None:  # nothing can be said any more: the connection is cut, as a client notices
            raise RuntimeError(f"request {self._visit.id} failed after its answer had begun") from error
        await (await reply_to(Request(self._scope), error))(self._scope, self._receive, self._visit.send)
        return True


class _Visit:
    """One request while it is here.

    Attributes:
        headers: those that are read before a route does; of several of one name the first.
        start: the message with status and headers, once it was sent.
        meter: of a key with limits, whose headers say what is left.
    """

    __slots__ = ("_send", "headers", "id", "meter", "start", "started_s")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.started_s = time.monotonic()
        self.headers = {name: value for name, value in reversed(scope["headers"]) if name in _READ}
        self.id = request_id(self.headers.get(b"x-request-id", b"").decode("latin-1"))
        self.start: Message | None = None
        self.meter: Meter | None = None
        self._send = send
        scope.setdefault("state", {})["request_id"] = self.id

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one with what every answer says."""
        if self.start is None:
            self.start = message
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
            if self.meter is not None:
                MutableHeaders(scope=message).update(self.meter.headers())
        await self._send(message)

"""One call: who makes it, whether it may, what it reads and says, and how it ended.

A call passes the same pieces as a request to the API does: they see it as a request to the path of its method, with
its metadata for headers. So keys, scopes, limits, numbers, log lines, traces and errors are those of the API.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
from google.protobuf.message import DecodeError, Message
from grpc import StatusCode
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from nacre.serve.api.answer import Answer
from nacre.serve.gateway.callers import Caller
from nacre.serve.gateway.errors import ApiError, invalid
from nacre.serve.gateway.front import Front
from nacre.serve.gateway.keys import HEALTH, OPEN_PATHS, Gate
from nacre.serve.gateway.observe import Tracer
from nacre.serve.gateway.wishes import Wishes, wishes
from nacre.serve.service import Service

_CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.ABORTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    503: StatusCode.UNAVAILABLE,
}
_ENDED_S = 1.0  # for the engine to stop an answer nobody waits for
_ANSWER = "nacre.call"  # where a scope has its call

Work = Callable[["Call"], Awaitable[Message | None]]


@dataclass(frozen=True)
class _Path:
    """Stands where Starlette puts the route."""

    path: str


class Call:
    """One call under way.

    Args:
        context: gRPC's.
        service: the server.
        work: answers it; what it returns is the answer of a method that has one.
    """

    def __init__(self, context: Any, service: Service, work: Work) -> None:
        self.service, self._context, self._work = service, context, work
        self._wire = service.settings.wire
        self._answer: Answer | None = None
        self._send: Send
        self.caller: Caller
        self.gone = False
        self.said: Message | None = None
        self.error: ApiError | None = None

    def wishes(self) -> Wishes:
        """Whether the client lets its answer be kept, and learned from. Raises as `wishes` does."""
        return wishes(self._context.invocation_metadata() or (), self.service.settings.privacy)

    async def run(self, caller: Caller, send: Send) -> None:
        """Answer it, once it may."""
        self.caller, self._send = caller, send
        self.said = await self._work(self)

    async def begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Say that it is answered, and by what; what comes after cannot be refused but only break."""
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def read(self, kind: type[Message], within_s: float | None = None) -> Message | None:
        """The next message of the client; None after the last.

        Raises:
            ApiError: it did not come in time, or is not what the .proto says.
        """
        wait_s = within_s or self._wire.body_s
        try:
            async with asyncio.timeout(wait_s):
                raw = await self._context.read()
        except TimeoutError:
            raise ApiError(408, f"the message did not arrive within {wait_s:g} s", code="timeout") from None
        except grpc.aio.BaseError:
            self.leave()
            return None
        if raw is grpc.aio.EOF:
            return None
        try:
            return kind.FromString(raw)
        except DecodeError:
            raise invalid("the message is not what the .proto says", code="invalid_message") from None

    async def say(self, message: Message) -> None:
        """One message of a stream. A client that is gone, or takes nothing for too long, ends the answer."""
        if self.gone:
            return
        try:
            async with asyncio.timeout(self._wire.write_s):
                await self._context.write(message.SerializeToString())
        except (TimeoutError, grpc.aio.BaseError):
            self.leave()

    def answers(self, answer: Answer) -> None:
        """From now on this is stopped when the client leaves."""
        self._answer = answer
        if self.gone:
            answer.cancel()

    def leave(self) -> None:
        """The client has gone."""
        self.gone = True
        if self._answer is not None:
            self._answer.cancel()


class Entrance:
    """Lets calls in, see this file's head.

    Args:
        service: the server.
        tracer: where traces go.
    """

    def __init__(self, service: Service, tracer: Tracer | None) -> None:
        self._service = service
        gate = Gate(service.ring, OPEN_PATHS)
        self._app = Front(_run, gate, service.crowd, service.metrics, tracer)

    async def handle(self, context: Any, path: str, work: Work, *, is_open: bool) -> bytes:
        """Answer one call.

        Args:
            context: gRPC's.
            path: of the method.
            work: answers it.
            is_open: whether it needs no key, as the API's health.

        Returns:
            The answer of a method that has one.
        """
        call = Call(context, self._service, work)
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": HEALTH if is_open else path,
            "route": _Path(path),
            "headers": [_header(key, value) for key, value in context.invocation_metadata() or ()],
            "state": {},
            _ANSWER: call,
        }
        reply = _Reply(context)
        running = asyncio.create_task(self._through(scope, reply))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:  # the client has gone; what was made until now is counted and kept
            call.leave()
            _, late = await asyncio.wait([running], timeout=_ENDED_S)
            for one in late:
                one.cancel()
            raise
        await reply.refuse(call.error)
        return call.said.SerializeToString() if call.said is not None else b""

    async def _through(self, scope: Scope, reply: "_Reply") -> None:
        await self._app(scope, _nothing, reply.take)


class _Reply:
    """What the pieces around a call send: headers go into its trailing metadata, an error's body into its status."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._status = 200
        self._body = b""
        self._metadata: list[tuple[str, str]] = []

    async def take(self, event: Event) -> None:
        """One ASGI message."""
        if event["type"] == "http.response.start":
            self._status = event["status"]
            pairs = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in event.get("headers", [])]
            self._metadata = [(key, value) for key, value in pairs if key.startswith("x-") or key == "retry-after"]
            self._context.set_trailing_metadata(tuple(self._metadata))
        else:
            self._body += event.get("body", b"")

    async def refuse(self, error: ApiError | None) -> None:
        """End the call with the error there was, if there was one."""
        if error is None and self._status == 200:
            return
        status, body = (error.status, error.body()) if error else (self._status, orjson.loads(self._body))
        told = body["error"]
        more = [(f"x-nacre-error-{name}", told[name]) for name in ("code", "param") if told[name]]
        metadata = [(key, value) for key, value in (*self._metadata, *more) if value.isascii() and value.isprintable()]
        await self._context.abort(_CODES.get(status, StatusCode.INTERNAL), told["message"], tuple(metadata))


async def _run(scope: Scope, receive: Receive, send: Send) -> None:
    """The innermost app."""
    call: Call = scope[_ANSWER]
    caller = scope["state"]["caller"]
    await call.run(caller if caller is not None else Caller(""), send)


async def _nothing() -> Event:
    """The body is read as messages."""
    return {"type": "http.disconnect"}


def _header(key: str, value: str | bytes) -> tuple[bytes, bytes]:
    return key.encode("latin-1", "replace"), value if isinstance(value, bytes) else value.encode("latin-1", "replace")

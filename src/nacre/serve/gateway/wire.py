"""Connections: what half a request, a reader that does not read, and a crowd of idle ones may take.

uvicorn waits for ever for the rest of a request and for a client that takes no byte. This is its HTTP protocol with
limits: the headers whole in `header_s`, the body in `body_s`, some byte of the answer taken in `write_s`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from nacre.serve.gateway.errors import ApiError
from nacre.serve.gateway.writes import Together
from nacre.serve.settings import Wire

_MOST_HEADERS = 100
_GRACE_S = 1.0  # for the route's own answer to a body that came too slowly


def limited(wire: Wire) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with these limits."""

    class Limited(LimitedProtocol):
        def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], **more: Any) -> None:
            super().__init__(config, server_state, app_state, wire=wire, **more)

    return Limited


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        wire: the limits.
        more: of uvicorn's protocol.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], *, wire: Wire, **more: Any
    ) -> None:
        super().__init__(config, server_state, app_state, **more)
        self.access_log = False  # there is a line a request elsewhere, without query and address
        self._wire = wire
        self._waiting: asyncio.TimerHandle | None = None  # for the rest of a request
        self._unread: asyncio.TimerHandle | None = None  # for a client that takes what was written
        self._in_headers = True
        self._bytes = self._headers = 0  # of the present request's head; behind it, bytes that were no body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """A connection; one too many is closed at once."""
        super().connection_made(cast(asyncio.Transport, Together(transport, self.loop)))
        if len(self.connections) > self._wire.connections:
            self._end(ApiError(503, "too many connections", code="overloaded"))
            return
        self._expect(self._wire.header_s, self._on_slow_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and so are its timers."""
        self._expect(None)
        self._stop_unread()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes: of a head that grows too long, or of a body, or of chunks and trailers that hold none."""
        if self.transport.is_closing():
            return
        self._bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._in_headers:
            if self._bytes > self._wire.header_bytes:
                self._refuse(_head_too_large())
        else:
            if self._bytes > self._wire.header_bytes:
                self._end(_head_too_large())
            elif self._waiting is None and self._bytes:  # behind a whole request: the next one, or empty lines
                self._expect(self._wire.header_s, self._on_slow_head)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header more. Trailers, behind the body, are nobody's: uvicorn would add them to the headers."""
        if self._in_headers:
            self._headers += 1
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole; the body has its own time."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._wire.header_bytes or self._headers > _MOST_HEADERS:
            self._end(_head_too_large())
            return
        self._in_headers, self._bytes, self._headers = False, 0, 0
        if self._answering:  # the one before is being answered, and this one is not read meanwhile
            self._expect(None)
        else:
            self._expect(self._wire.body_s + _GRACE_S, self._on_slow_body)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body; of a request that was refused by its head there is nobody to take it."""
        self._bytes = 0
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_headers, self._bytes = True, 0
        self._expect(None)
        if self.cycle is not None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written. A body still being sent keeps its time, and a request behind it gets its own."""
        queued = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()
        elif queued and not self._in_headers:
            self._expect(self._wire.body_s + _GRACE_S, self._on_slow_body)

    def timeout_keep_alive_handler(self) -> None:
        """Idle for too long between two requests."""
        self._close()

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """It does again."""
        self._stop_unread()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Not HTTP, told as every other error is."""
        self._end(ApiError(400, msg.rstrip("."), code="invalid_http"))

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _on_slow_head(self) -> None:
        if self._answering:  # what came behind the present request may be half of the next one: it can wait
            self._expect(self._wire.header_s, self._on_slow_head)
        elif self._bytes:
            self._end(ApiError(408, f"the headers did not arrive within {self._wire.header_s:g} s", code="timeout"))
        else:
            self._close()

    def _on_slow_body(self) -> None:
        self._refuse(ApiError(408, f"the body did not arrive within {self._wire.body_s:g} s", code="timeout"))

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error and close; where an answer has begun, close alone."""
        if self.cycle is not None and self.cycle.response_started:
            self._close()
        else:
            self._end(error)

    def _end(self, error: ApiError) -> None:
        """Answer with an error and close; a route that has begun sees the client gone."""
        if self.transport.is_closing():
            return
        body = orjson.dumps(error.body())
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.status] + head + body)
        self._close()

    def _close(self) -> None:
        """Close, within `write_s` even if the client never takes what was written."""
        self._expect(None)
        if not self.transport.is_closing():
            self.transport.close()
        self._watch_reader()

    def _expect(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        """Wait so long for the rest of the request; None: for nothing."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(seconds, then) if seconds is not None and then is not None else None

    def _watch_reader(self) -> None:
        if self._unread is None and self.transport.get_write_buffer_size():
            self._unread = self.loop.call_later(self._wire.write_s, self.transport.abort)

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def _head_too_large() -> ApiError:
    return ApiError(431, "the request's headers are too large", code="headers_too_large")

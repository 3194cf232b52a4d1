"""Fewer writes: what one turn of the event loop has to say to a client goes out in one piece.

A head and its body, or several events of a stream, are written one by one by the HTTP protocol; each write is a system
call, and together they cost more than all else that is done for a request.
"""

import asyncio
from collections.abc import Callable
from typing import Any

_MOST_HELD_BYTES = 64 * 1024  # beyond it nothing is gained, and flow control must see it


class Together:
    """A transport that holds writes back until the end of the event loop's turn.

    Args:
        transport: the connection's own; whatever is not about writing goes to it.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []
        self._size = 0
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading

    def write(self, data: bytes) -> None:
        """Write, a little later."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST_HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            data = b"".join(self._held) if len(self._held) > 1 else self._held[0]
            self._held, self._size = [], 0
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything is written."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._held, self._size = [], 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not yet with the system."""
        return self._size + self._transport.get_write_buffer_size()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

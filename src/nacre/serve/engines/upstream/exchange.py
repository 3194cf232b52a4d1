"""One POST on one of aiohttp's pooled connections, without what its client does for browsers.

`ClientSession.post` spends three times as long as the rest of the gateway's work for a request on cookies, redirects,
proxies, tracing and URLs, none of which an upstream needs. Its connector (pool, TLS, name look-up), its parser and its
flow-controlled reader are used as they are.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError, asyncio.TimeoutError)  # a server that is not there
_LONGEST_HEAD = 16 * 1024
_BUFFER_BYTES = 64 * 1024

OnSent = Callable[[bool], None]


def nobody_asks(sent: bool) -> None:
    """An `OnSent` for requests whose fate until the answer matters to nobody."""


class Stale(Exception):
    """The server had closed the connection before it could be used again: says nothing about how the server is."""


class Exchange:
    """An answer whose head is there.

    Attributes:
        content: the body as it comes; read to its end, the connection is free for others.
    """

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(self, connection: aiohttp.connector.Connection, message: Any, content: aiohttp.StreamReader) -> None:
        self._connection, self.content = connection, content
        self.status: int = message.code
        self.headers = message.headers

    def close(self) -> None:
        """Give the connection up, unless the answer has reached its end and freed it."""
        self._connection.close()


class Line:
    """The way to one server.

    Args:
        headers: sent with every request, beside host and length.
    """

    def __init__(self, session: aiohttp.ClientSession, base: URL, headers: dict[str, str], connect_s: float) -> None:
        assert session.connector is not None
        self._session, self._connector, self._base, self._headers = session, session.connector, base, headers
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        self._used: set[ResponseHandler] = set()  # connections that have carried an answer
        self._heads: dict[str, bytes] = {}
        self._request = aiohttp.ClientRequest(  # says where to; never sent
            "POST", base, loop=asyncio.get_running_loop(), session=session, response_class=aiohttp.ClientResponse
        )

    async def post(self, path: str, body: bytes, on_sent: OnSent) -> Exchange:
        """Send a request; returns when the head of the answer is there. `on_sent` is told True once it is on its way.

        Raises:
            Stale: a used connection was found closed; another one may not be.
            BROKEN: the server cannot be reached or speaks no HTTP.
        """
        connection = await self._connector.connect(self._request, traces=[], timeout=self._timeout)
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        assert transport is not None
        fresh, answered = protocol not in self._used, False
        try:
            protocol.set_response_params(
                timer=None,
                skip_payload=False,
                read_until_eof=True,
                auto_decompress=False,
                read_timeout=None,  # one clock watches all answers
                read_bufsize=_BUFFER_BYTES,
                max_line_size=_LONGEST_HEAD,
                max_field_size=_LONGEST_HEAD,
            )
            head = self._heads.get(path) or self._heads.setdefault(path, self._head(path))
            transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            on_sent(True)
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # "continue", "early hints"
                message, content = await protocol.read()
            answered = True
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError):
            if fresh:
                raise
            self._used.discard(protocol)
            raise Stale from None
        finally:
            if not answered:  # cancelled, too
                connection.close()
        if fresh:
            self._remember(protocol)
        content.on_eof(connection.release)
        return Exchange(connection, message, content)

    def _remember(self, protocol: ResponseHandler) -> None:
        if len(self._used) > 2 * self._connector.limit:
            self._used = {each for each in self._used if each.is_connected()}
        self._used.add(protocol)

    def _head(self, path: str) -> bytes:
        """The head up to the length."""
        url = self._base / path
        lines = [f"POST {url.raw_path} HTTP/1.1", f"Host: {url.host_port_subcomponent}"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        return "\r\n".join([*lines, "Content-Length: "]).encode("ascii")

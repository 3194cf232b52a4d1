"""The API of this very server, asked in process: every request passes its doors, so a key opens here what it opens."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

_DATA = "data: "


class Refused(Exception):
    """The API said no.

    Attributes:
        status: of the answer.
        told: its message.
    """

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status, self.told = status, told


class Api:
    """Requests with one key.

    Args:
        app: the API.
        key: sent as bearer token; empty: none is sent.
        person: who asks, for the API's `user`: answers of one person come from one arm.
    """

    def __init__(self, app: ASGIApp, key: str, person: str = "") -> None:
        self._app, self._key, self.person = app, key, person

    async def get(self, path: str, **query: Any) -> Any:
        """What a route tells: JSON read, or a text.

        Raises:
            Refused: any status but 2xx.
        """
        return await self._whole("GET", path, None, {name: value for name, value in query.items() if value is not None})

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON. Raises as `get` does."""
        return await self._whole("POST", path, body, {})

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a stream, one by one. Leaving early tells the API that nobody listens any more.

        Raises:
            Refused: any status but 2xx, or an error in the stream.
        """
        rest = b""
        async with aclosing(self._pieces("POST", path, {**body, "stream": True}, {})) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in (one.decode() for one in lines):
                    if not line.startswith(_DATA) or line == f"{_DATA}[DONE]":
                        continue
                    event: dict[str, Any] = json.loads(line.removeprefix(_DATA))
                    if "error" in event:
                        raise Refused(500, _told(event))
                    yield event

    async def _whole(self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any]) -> Any:
        raw = b"".join([piece async for piece in self._pieces(method, path, body, query)])
        return json.loads(raw) if raw[:1] in b"{[" else raw.decode()

    async def _pieces(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        """The body of the answer as it comes."""
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        left, content = asyncio.Event(), b"" if body is None else json.dumps(body).encode()
        coming = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> Message:
            if coming:
                return coming.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def answer() -> None:
            try:
                await self._app(self._scope(method, path, content, query), receive, sent.put)
            finally:
                await sent.put(None)

        task = asyncio.create_task(answer())
        status, wrong = 0, b""
        try:
            while (message := await sent.get()) is not None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                elif status // 100 == 2:
                    yield message.get("body", b"")
                else:
                    wrong += message.get("body", b"")
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    break
        finally:
            left.set()
            await asyncio.wait([task])
        if task.exception() is not None and status == 0:
            raise Refused(500, "internal error")
        if status // 100 != 2:
            raise Refused(status, _told(wrong))

    def _scope(self, method: str, path: str, content: bytes, query: Mapping[str, Any]) -> dict[str, Any]:
        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        headers.append((b"content-length", str(len(content)).encode()))
        if self._key:
            headers.append((b"authorization", f"Bearer {self._key}".encode("latin-1", "replace")))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(query).encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 80),
            "state": {},
        }


def _told(raw: bytes | Mapping[str, Any]) -> str:
    """The message of an error's body."""
    try:
        body = json.loads(raw) if isinstance(raw, bytes) else raw
        return str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the server refused this without a reason"

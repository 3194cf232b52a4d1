"""Ids of requests and responses. A response id carries a signature, so that nobody rates what was never answered."""

import hmac
import os
import re
import secrets
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nacre.base.files import disk_errors

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RESPONSE_ID = re.compile(r"(?:chatcmpl|cmpl)-([0-9a-f]{24})-([0-9a-f]{32})")


class Signer:
    """Makes response ids and knows its own again (HMAC-SHA-256 over a random number, 128 bits kept)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def from_file(cls, path: Path) -> "Signer":
        """The secret kept in `path` (mode 0600), made when there is none; servers that start together agree on one."""
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
                handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                try:
                    with os.fdopen(handle, "wb") as file:
                        file.write(secrets.token_bytes(32))
                        file.flush()
                        os.fsync(file.fileno())
                    path.hardlink_to(fresh)
                except FileExistsError:
                    pass  # another server was first: its secret counts
                finally:
                    fresh.unlink()
            return cls(path.read_bytes())

    def new(self, prefix: str = "chatcmpl") -> str:
        """A fresh response id; of those that begin otherwise than `chatcmpl` and `cmpl` none is known again."""
        number = secrets.token_hex(12)
        return f"{prefix}-{number}-{self._sign(number)}"

    def knows(self, response_id: str) -> bool:
        """Whether this id was made with our secret."""
        match = _RESPONSE_ID.fullmatch(response_id)
        return match is not None and hmac.compare_digest(match[2], self._sign(match[1]))

    def _sign(self, number: str) -> str:
        return hmac.digest(self._secret, number.encode(), "sha256").hex()[:32]


class RequestIds:
    """ASGI middleware: every answer carries ``x-request-id``, the client's own where it sent a usable one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id in ``scope["state"]["request_id"]``."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        await self.app(scope, receive, send_with_id)

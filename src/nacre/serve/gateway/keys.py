"""Bearer keys, and the addresses that may be served without any."""

import hashlib
import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nacre.base.errors import InputError
from nacre.serve.gateway.errors import ApiError

OPEN_PATHS = frozenset({"/health"})  # probes carry no key; what they learn is one word


def check_exposure(host: str, api_keys: tuple[str, ...]) -> None:
    """Refuse keys that protect nothing, and an address others can reach without any key.

    Raises:
        InputError: an empty or unprintable key; no key and an address that is not loopback.
    """
    for key in api_keys:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                "an API key is empty or has spaces or characters outside ASCII", where="--api-key", fix="choose another"
            )
    if not api_keys and not _is_loopback(host):
        raise InputError(
            "without an API key anyone who reaches this address may use the model",
            where=f"--host {host}",
            fix="add --api-key KEY, or serve 127.0.0.1 only",
        )


class Keys:
    """ASGI middleware: without one of the keys only `OPEN_PATHS` answer.

    Sets ``scope["state"]["key_id"]``: the start of the key's SHA-256, empty when there are no keys, None when the
    request brought none.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self.app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise 401."""
        if scope["type"] == "http":
            key_id = self._key_id(Headers(scope=scope).get("authorization", ""))
            if key_id is None and scope["path"] not in OPEN_PATHS:
                raise ApiError(
                    401,
                    "the API key is missing or wrong: send 'Authorization: Bearer KEY'",
                    code="invalid_api_key",
                    headers={"www-authenticate": "Bearer"},
                )
            scope["state"]["key_id"] = key_id
        await self.app(scope, receive, send)

    def _key_id(self, authorization: str) -> str | None:
        if not self._digests:
            return ""
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]  # all of them: equal time
        return digest.hex()[:8] if any(matches) and scheme.lower() == "bearer" else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

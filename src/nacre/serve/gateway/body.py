"""Reading a JSON body that may be anything."""

import asyncio
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Receive

from nacre.serve.gateway.errors import ApiError, invalid

_DEEPEST = 32
_DRAINED = 8  # a body up to this many times too long is read to its end, so that its sender sees the answer


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body as a JSON object. Raises as `read_object` does."""
    limit_s: float = request.app.state.service.settings.wire.body_s
    return await read_object(request.receive, max_bytes, limit_s)


async def read_object(receive: Receive, max_bytes: int, limit_s: float) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        ApiError: too long (413), too slow (408), not JSON or no object or nested too deeply (400).
    """
    try:
        async with asyncio.timeout(limit_s):
            raw = await _read(receive, max_bytes)
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {limit_s:g} s", code="timeout") from None
    return json_object(raw)


def json_object(raw: bytes) -> dict[str, Any]:
    """These bytes as a JSON object.

    Raises:
        ApiError: 400, not JSON or no object or nested too deeply.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    if raw.count(b"[") + raw.count(b"{") > _DEEPEST and _deeper_than(body, _DEEPEST):
        raise invalid(f"the body is nested more than {_DEEPEST} levels deep", code="invalid_json")
    return body


async def _read(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more and size <= _DRAINED * max_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(499, "the client went away", code="client_closed_request")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size <= max_bytes:
            parts.append(part)
    if size > max_bytes:
        raise ApiError(413, f"the body is longer than {max_bytes} bytes", code="request_too_large")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _deeper_than(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        inside = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inside for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True

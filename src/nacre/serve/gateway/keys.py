"""Which key opens which route, how often, and the addresses that may be served without any."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nacre.base.errors import InputError
from nacre.records.key import Scope as KeyScope
from nacre.serve.gateway.callers import Caller
from nacre.serve.gateway.errors import ApiError
from nacre.serve.gateway.keyring import KeyRing

HEALTH, METRICS = "/health", "/metrics"
_SHORTEST_KEY = 16  # characters, beyond loopback
OPEN_PATHS = frozenset({HEALTH})  # probes carry no key; what they learn is one word


def check_keys(api_keys: tuple[str, ...], *hosts: str) -> None:
    """Refuse keys that protect nothing.

    Args:
        api_keys: of the configuration, chosen by a person.
        hosts: the addresses to listen on.

    Raises:
        InputError: an empty or unprintable key, or one that others could guess.
    """
    for key in api_keys:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                "an API key is empty or has spaces or characters outside ASCII", where="--api-key", fix="choose another"
            )
        if len(key) < _SHORTEST_KEY and not all(map(_is_loopback, hosts)):
            raise InputError(
                f"an API key of {len(key)} characters can be guessed by those who reach this address",
                where="--api-key",
                fix=f"choose {_SHORTEST_KEY} random characters or more, or make one with `nacre keys create`",
            )


def check_exposure(host: str, *, usable: bool) -> None:
    """Refuse an address that others can reach without any key.

    Args:
        host: the address to listen on.
        usable: whether there is a key.

    Raises:
        InputError: no key and an address that is not loopback.
    """
    if not usable and not _is_loopback(host):
        raise InputError(
            "without an API key anyone who reaches this address may use the model",
            where=f"--host {host}",
            fix="make one with `nacre keys create`, add --api-key KEY, or serve 127.0.0.1 only",
        )


def scope_of(path: str) -> KeyScope:
    """What a key must open for this route."""
    if path == METRICS or path == "/admin" or path.startswith("/admin/"):
        return "admin"
    return "feedback" if path == "/v1/feedback" else "infer"


class KeyGate:
    """ASGI middleware: without a key that opens a route only `open_paths` answer; and no key asks more than it may.

    Sets ``scope["state"]["caller"]`` and ``["key_id"]``: both None when the request brought no key.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing, open_paths: frozenset[str] = OPEN_PATHS) -> None:
        self.app, self._ring, self._open = app, ring, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise 401, 403 or 429."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = self._ring.find(Headers(scope=scope).get("authorization", ""))
        scope["state"] |= {"caller": caller, "key_id": caller.id if caller else None}
        if scope["path"] in self._open:
            await self.app(scope, receive, send)
            return
        if caller is None:
            raise _refused("the API key is missing or wrong: send 'Authorization: Bearer KEY'")
        needed = scope_of(scope["path"])
        if not caller.id and not _from_this_machine(Headers(scope=scope)):
            raise ApiError(
                403,
                "without API keys only programs of this machine are answered, no pages of other sites: make a key with "
                "`nacre keys create`",
                code="foreign_origin",
            )
        if needed not in caller.scopes:
            if not caller.id:
                raise _refused("this route needs a key with the scope 'admin': `nacre keys create NAME --scope admin`")
            raise ApiError(403, f"this key does not open this: it lacks the scope '{needed}'", code="missing_scope")
        if needed == "admin":  # who steers releases is not kept waiting
            await self.app(scope, receive, send)
        else:
            await self._metered(caller, scope, receive, send)

    async def _metered(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        meter = caller.meter
        meter.admit()
        if not meter.limited:
            try:
                await self.app(scope, receive, send)
            finally:
                meter.release()
            return

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(meter.headers())
            await send(message)

        try:
            await self.app(scope, receive, send_with_limits)
        finally:
            meter.release()


@dataclass
class Crowd:
    """How many requests run, streams included, and how many may."""

    most: int = 1024
    running: int = 0


class Door:
    """ASGI middleware: lets in as many requests as `crowd` says; one more is answered 503 at once."""

    def __init__(self, app: ASGIApp, crowd: Crowd) -> None:
        self.app, self._crowd = app, crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise 503."""
        if scope["type"] != "http" or scope["path"] == HEALTH or scope_of(scope["path"]) == "admin":
            await self.app(scope, receive, send)  # a full house must not keep a release from being aborted
            return
        crowd = self._crowd
        if crowd.running >= crowd.most:
            message = f"{crowd.most} requests run already: try again later"
            raise ApiError(503, message, code="overloaded", headers={"retry-after": "1"})
        crowd.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            crowd.running -= 1


def _refused(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def _from_this_machine(headers: Headers) -> bool:
    """Whether a request names this machine as its goal, and comes from no page of another site.

    A browser on this machine reaches loopback addresses for any page it shows: the page's site stands in `Origin`, and
    a name that was made to lead here (DNS rebinding) stands in `Host`.
    """
    places = [f"//{headers['host']}"] if "host" in headers else []
    places += [headers["origin"]] if "origin" in headers else []
    return all(_is_loopback(_host_of(place)) for place in places)


def _host_of(place: str) -> str:
    try:
        return urlsplit(place).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

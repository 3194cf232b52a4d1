"""Which key opens which route, how often, and the addresses that may be served without any."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from nacre.base.errors import InputError
from nacre.records.key import Scope as KeyScope
from nacre.serve.gateway.callers import Caller, Meter
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


class Gate:
    """Without a key that opens a route only `open_paths` answer; and no key asks more than it may.

    Args:
        ring: the keys.
        open_paths: routes that answer without.
    """

    def __init__(self, ring: KeyRing, open_paths: frozenset[str] = OPEN_PATHS) -> None:
        self._ring, self._open = ring, open_paths

    def find(self, headers: Mapping[bytes, bytes]) -> Caller | None:
        """Whose key a request has; None where it has none that is known."""
        return self._ring.find(headers.get(b"authorization", b"").decode("latin-1"))

    def admit(self, caller: Caller | None, path: str, headers: Mapping[bytes, bytes]) -> Meter | None:
        """Let a request in.

        Returns:
            What has counted it, to be released when it ends; None where nothing counts it.

        Raises:
            ApiError: 401, 403 or 429.
        """
        if path in self._open:
            return None
        if caller is None:
            raise _refused("the API key is missing or wrong: send 'Authorization: Bearer KEY'")
        if not caller.id and not from_this_machine(Headers(raw=list(headers.items()))):
            raise ApiError(
                403,
                "without API keys only programs of this machine are answered, no pages of other sites: make a key with "
                "`nacre keys create`",
                code="foreign_origin",
            )
        needed = scope_of(path)
        if needed not in caller.scopes:
            if not caller.id:
                raise _refused("this route needs a key with the scope 'admin': `nacre keys create NAME --scope admin`")
            raise ApiError(403, f"this key does not open this: it lacks the scope '{needed}'", code="missing_scope")
        if needed == "admin":  # who steers releases is not kept waiting
            return None
        caller.meter.admit()
        return caller.meter


@dataclass
class Crowd:
    """How many requests run, streams included, and how many may."""

    most: int = 1024
    running: int = 0

    def enter(self, path: str) -> bool:
        """Count a request in; False where it is not counted.

        Raises:
            ApiError: 503, there are too many.
        """
        if path == HEALTH or scope_of(path) == "admin":
            return False  # a full house must not keep a release from being aborted
        if self.running >= self.most:
            message = f"{self.most} requests run already: try again later"
            raise ApiError(503, message, code="overloaded", headers={"retry-after": "1"})
        self.running += 1
        return True

    def leave(self) -> None:
        """One that was counted in has ended."""
        self.running -= 1


def _refused(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def from_this_machine(headers: Headers) -> bool:
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

"""One server: its connections, its health, the models it says it has."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from yarl import URL

from nacre import __version__
from nacre.base.errors import InputError, NacreError
from nacre.serve.engines import EngineError
from nacre.serve.engines.upstream.breaker import Breaker
from nacre.serve.engines.upstream.errors import Failed, refused
from nacre.serve.engines.upstream.exchange import BROKEN, Exchange, Line, OnSent, Stale, nobody_asks
from nacre.serve.engines.upstream.settings import Upstream

_log = logging.getLogger("nacre.serve")

_PROBE_S = 5.0  # for a question about health or models
_MOST_LISTED_BYTES = 4 * 1024 * 1024
_IDLE_S = 4.0  # shorter than uvicorn's 5, so that no request meets a connection that is being closed
_MOST_STALE = 64  # closed connections that one request may meet before it gives up


@dataclass(frozen=True)
class Card:
    """A model that a server lists.

    Attributes:
        root: where it was loaded from, where the server says so.
        parent: the model an adapter sits on; None for a model of its own.
    """

    id: str
    root: str | None = None
    parent: str | None = None


class Replica:
    """One server.

    Attributes:
        name: its address without path, for messages.
        alive: whether it answered when it was last asked how it is.
        cards: the models it listed then, by name; None where it does not list any.
        in_flight: requests it is answering.
    """

    def __init__(self, url: str, settings: Upstream, key: str | None) -> None:
        base = parsed(url)
        self.name = str(base.origin())
        self.alive = False
        self.cards: Mapping[str, Card] | None = {}
        self.in_flight = 0
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_open_s)
        self._settings = settings
        self._base = base
        headers = {
            "Accept": "*/*",
            "Accept-Encoding": "identity",  # nothing to unpack, so nothing that grows while it is unpacked
            "Content-Type": "application/json",
            "User-Agent": f"nacre/{__version__}",
        }
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.max_connections, keepalive_timeout=_IDLE_S),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_s),
        )
        self._line = Line(self._session, base, headers, settings.connect_s)

    async def send(self, path: str, body: bytes, on_sent: OnSent = nobody_asks) -> Exchange:
        """POST; returns when the head of a good answer is there. `on_sent` is told whether the server has the request.

        Raises:
            Failed: the server cannot be reached or answers with an error.
        """
        answer = await self._post(path, body, on_sent)
        if answer.status == 200:
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                answer.close()
                raise Failed(EngineError("the upstream compresses its answer, which it was asked not to do"))
            return answer
        try:
            said = await read_all(answer, _MOST_LISTED_BYTES)
            raise refused(answer.status, said, answer.headers.get("Retry-After"))
        finally:
            answer.close()

    async def _post(self, path: str, body: bytes, on_sent: OnSent) -> Exchange:
        for _ in range(_MOST_STALE):
            try:
                return await self._line.post(path, body, on_sent)
            except Stale:
                on_sent(False)
                continue
            except BROKEN as error:
                raise Failed(EngineError(f"the upstream cannot be reached: {_told(error)}")) from None
        raise Failed(EngineError("the upstream closes its connections"))

    async def ask(self, path: str, body: Mapping[str, Any]) -> bytes:
        """POST a question about models; the answer's body. Raises as `send` does."""
        answer = await self.send(path, orjson.dumps(body))
        try:
            return await read_all(answer, _MOST_LISTED_BYTES)
        finally:
            answer.close()

    async def look(self) -> None:
        """Ask how the server is and which models it has; `alive` and `cards` say what came of it."""
        was = self.alive
        try:
            async with asyncio.timeout(_PROBE_S):
                self.alive, self.cards = await self._look()
        except (*BROKEN, Failed, NacreError) as error:  # a refusal is an `InputError`
            self.alive = False
            if was:
                _log.warning("the upstream %s does not answer: %s", self.name, _told(error))
        if self.alive and not was:
            _log.info("the upstream %s answers", self.name)

    async def _look(self) -> tuple[bool, Mapping[str, Card] | None]:
        if self._settings.kind == "llamacpp":  # lists its model while that is still being loaded
            status, _ = await self._get(self._base.parent / "health")
            if status != 200:
                return False, self.cards
        status, body = await self._get(self._base / "models")
        if status in (404, 405, 501):
            return True, None
        if status != 200:
            raise refused(status, body).error
        return True, _cards(body)

    async def _get(self, url: URL) -> tuple[int, bytes]:
        async with self._session.get(url, allow_redirects=False) as answer:
            return answer.status, await read_all(answer, _MOST_LISTED_BYTES)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


async def read_all(answer: Exchange | aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The body of an answer.

    Raises:
        Failed: it is longer than allowed, or breaks off.
    """
    content = answer.content
    try:
        body = await content.readany()
        if content.at_eof():  # nearly always: it has arrived with the head
            return _bounded(body, most_bytes)
        parts, size = [body], len(body)
        while part := await content.readany():
            size += len(part)
            parts.append(part)
            if size > most_bytes:
                break
    except BROKEN as error:
        raise Failed(EngineError(f"the upstream's answer broke off: {_told(error)}")) from None
    return _bounded(b"".join(parts), most_bytes)


def _bounded(body: bytes, most_bytes: int) -> bytes:
    if len(body) > most_bytes:
        raise Failed(EngineError(f"the upstream's answer is longer than {most_bytes} bytes"), again=False)
    return body


def parsed(url: str) -> URL:
    """The address that requests go to, which ends in ``/v1``.

    Raises:
        InputError: it is no address of a server, or has a password in it.
    """
    where, fix = "serve.upstream.urls", "write http://HOST:PORT/v1"
    try:
        found = URL(url.rstrip("/"))
    except ValueError:
        raise InputError("an address is no URL", where=where, fix=fix) from None
    if found.scheme not in ("http", "https") or not found.host or found.query_string or found.fragment:
        raise InputError("an address is no http or https URL of a server", where=where, fix=fix)
    if found.user or found.password:
        raise InputError(
            "an address holds a user or a password", where=where, fix="name a variable in serve.upstream.api_key_env"
        )
    return found if found.path.endswith("/v1") else found / "v1"


def _cards(body: bytes) -> Mapping[str, Card]:
    try:
        cards = [
            Card(_name(each["id"]), _text(each.get("root")), _text(each.get("parent")))
            for each in orjson.loads(body)["data"]
            if each["id"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise EngineError("the list of models is not what OpenAI's API describes") from None
    return {card.id: card for card in cards}


def _name(told: Any) -> str:
    if not isinstance(told, str):
        raise TypeError("id")
    return told


def _text(told: Any) -> str | None:
    return told if isinstance(told, str) else None


def _told(error: BaseException) -> str:
    """The kind of failure; aiohttp's own messages name addresses, which clients need not know."""
    if isinstance(error, Failed):
        return error.error.what
    return str(error) if isinstance(error, NacreError) else type(error).__name__

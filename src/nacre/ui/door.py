"""Who may see the page: a key opens a session, and of Gradio's routes only those are there that the page needs.

The session is a random word in a cookie that no script reads; the key stays in this process. Every request looks the
key up again, so one that is revoked shuts the page as it shuts the API. Gradio's routes for files, uploads, proxies,
direct calls, its description of itself and whatever a later version brings are not reached: what is not named here is
404.
"""

import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nacre.base.addresses import netloc
from nacre.serve.gateway.keyring import KeyRing
from nacre.serve.gateway.keys import from_this_machine
from nacre.ui.login import login_page

ROOT = "/ui"
LANGUAGES = ("en", "zh")
IDLE_S = 12 * 3600.0  # after so long without a request a session is over
_MOST_SESSIONS = 1000
_MOST_TABS = 256  # of one session that are remembered
_LONGEST_FORM = 4096  # bytes
_LONGEST_BODY = 1024 * 1024  # bytes of an event
_SERVED = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/[A-Za-z0-9._/-]+"
        r"|/gradio_api/(startup-events|queue/data|heartbeat/[a-z0-9]+)"
    ),
    "POST": re.compile(r"/gradio_api/(queue/join|cancel|reset)"),
}
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass
class Session:
    """One browser that has shown a key.

    Attributes:
        tabs: the names that Gradio's pages of this browser gave themselves; another browser may not use them.
    """

    key: str
    person: str
    used_s: float
    tabs: dict[str, None] = field(default_factory=dict)


class Sessions:
    """The open sessions. Where the server asks for no key, everybody who reaches it shares one without a key."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring, self._open = ring, dict[str, Session]()
        self.cookie = f"nacre_ui_{secrets.token_hex(4)}"  # cookies know no ports: servers side by side have their own
        self._nobody = Session("", "page", 0.0)

    def begin(self, key: str) -> str | None:
        """The word of a new session; None where the key opens nothing."""
        if self._ring.find(f"Bearer {key}") is None:
            return None
        present = time.monotonic()
        for word in [word for word, one in self._open.items() if present - one.used_s > IDLE_S]:
            del self._open[word]
        while len(self._open) >= _MOST_SESSIONS:  # whoever logs in again and again shuts out nobody but themselves
            crowd = Counter(one.key for one in self._open.values()).most_common(1)[0][0]
            theirs = [word for word, one in self._open.items() if one.key == crowd]
            del self._open[min(theirs, key=lambda word: self._open[word].used_s)]
        word = secrets.token_urlsafe(32)
        self._open[word] = Session(key, f"page-{secrets.token_hex(8)}", present)
        return word

    def end(self, word: str) -> None:
        """Forget it."""
        self._open.pop(word, None)

    def find(self, cookies: Mapping[str, str]) -> Session | None:
        """The session of a request; None where there is none, or its key opens nothing any more."""
        word = cookies.get(self.cookie, "")
        session = self._open.get(word)
        if session is None:
            return None if self._ring.closed else self._nobody
        if self._ring.find(f"Bearer {session.key}") is None or time.monotonic() - session.used_s > IDLE_S:
            self.end(word)
            return None
        session.used_s = time.monotonic()
        return session

    def owns(self, session: Session, tab: str) -> bool:
        """Whether a Gradio page of that name is this browser's: it is whose it was first."""
        if any(tab in one.tabs for one in self._open.values() if one is not session):
            return False
        session.tabs[tab] = None
        while len(session.tabs) > _MOST_TABS:
            del session.tabs[next(iter(session.tabs))]
        return True

    @property
    def needed(self) -> bool:
        """Whether a key is asked for."""
        return self._ring.closed


class Door:
    """ASGI: what begins with `ROOT` is the page, for those who have a session; everything else is the API."""

    def __init__(self, api: ASGIApp, page: ASGIApp, sessions: Sessions) -> None:
        self._api, self._page, self._sessions = api, page, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        path = scope.get("path", "")
        if scope["type"] != "http" or (path != ROOT and not path.startswith(f"{ROOT}/")):
            await self._api(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if "/assets/" not in path and "/static/" not in path:
                    headers["cache-control"] = "no-store"
            await send(message)

        reply = await self._reply(Request(scope, receive))
        await (reply or self._page)(scope, receive, send_guarded)

    async def _reply(self, request: Request) -> Response | None:
        """What is answered here; None: Gradio answers."""
        headers, path = request.headers, request.url.path.removeprefix(ROOT)
        if not _same_site(headers) or (not self._sessions.needed and not from_this_machine(headers)):
            return PlainTextResponse("this page is not for other sites", 403)
        if path in ("/login", "/logout"):
            return await self._come_or_go(request, path)
        session = self._sessions.find(request.cookies)
        if session is None:
            html = request.method == "GET" and path.rstrip("/").lstrip("/") in ("", *LANGUAGES)
            return RedirectResponse(f"{ROOT}/login", 303) if html else PlainTextResponse("show a key first", 401)
        language, _, rest = path.lstrip("/").partition("/")
        if not rest and not path.endswith(f"/{language}/"):
            return RedirectResponse(f"{ROOT}/{language if language in LANGUAGES else _language(headers)}/", 303)
        served = _SERVED.get(request.method)
        if language not in LANGUAGES or served is None or not served.fullmatch(f"/{rest}") or ".." in rest:
            return PlainTextResponse("there is nothing", 404)
        if request.method == "POST" and int(headers.get("content-length", _LONGEST_BODY + 1)) > _LONGEST_BODY:
            return PlainTextResponse("this is too long", 413)
        tab = request.query_params.get("session_hash") or (rest.partition("heartbeat/")[2])
        if tab and not self._sessions.owns(session, tab):
            return PlainTextResponse("this is another browser's", 403)
        return None

    async def _come_or_go(self, request: Request, path: str) -> Response:
        language = _language(request.headers)
        if path == "/logout":
            if request.method != "POST":
                return PlainTextResponse("", 405)
            self._sessions.end(request.cookies.get(self._sessions.cookie, ""))
            gone = RedirectResponse(f"{ROOT}/login", 303)
            gone.delete_cookie(self._sessions.cookie, path=ROOT, httponly=True, samesite="strict")
            return gone
        if request.method == "GET":
            return HTMLResponse(login_page(language))
        if request.method != "POST":
            return PlainTextResponse("", 405)
        word = self._sessions.begin(await _sent_key(request))
        if word is None:
            return HTMLResponse(login_page(language, wrong=True), 401)
        come = RedirectResponse(f"{ROOT}/{language}/", 303)
        come.set_cookie(self._sessions.cookie, word, path=ROOT, httponly=True, samesite="strict")
        return come


async def _sent_key(request: Request) -> str:
    """The key of the form; empty where the form is none."""
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > _LONGEST_FORM:
            return ""
    return parse_qs(raw.decode("latin-1")).get("key", [""])[0].strip()


def _same_site(headers: Headers) -> bool:
    """Whether a request comes from this page, from the address bar, or from no browser."""
    if (
        headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        and headers.get("sec-fetch-mode") != "navigate"
    ):
        return False
    origin = headers.get("origin")
    return origin is None or (netloc(origin) or None) == headers.get("host")


def _language(headers: Headers) -> str:
    """The first of the reader's languages that the page has."""
    for wish in headers.get("accept-language", "").lower().split(","):
        if (language := wish.strip()[:2]) in LANGUAGES:
            return language
    return LANGUAGES[0]


def session_of(sessions: Sessions, request: Any) -> Session | None:
    """Whose event this is.

    Args:
        sessions: the open ones.
        request: Gradio's, of the handler.
    """
    session = sessions.find(request.cookies)
    if session is None or not sessions.owns(session, request.session_hash or ""):
        return None
    return session

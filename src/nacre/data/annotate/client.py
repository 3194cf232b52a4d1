"""One Label Studio server, spoken to as its API is (https://api.labelstud.io, tried with 1.23).

Two kinds of token are known and told apart by their form. A personal access token is a JWT: it is exchanged at
``/api/token/refresh/`` for an access token of a few minutes, which goes along as ``Bearer``, and again when that has
expired. A legacy token goes along as ``Token``. Neither is ever shown, nor sent to another address: redirects are not
followed.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from nacre.base.addresses import netloc, shown_address
from nacre.base.errors import InputError, NacreError
from nacre.base.files import atomic_write
from nacre.base.redirects import NoRedirect

BACKOFF_S = 0.5
_TRIES = 3  # of what only reads; a write is not sent twice, because it may have arrived
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")
_TOKEN_FIX = "take a personal access token from Account & Settings in Label Studio, and put it where nacre looks for it"
_URL_FIX = "give --url the address of Label Studio alone, e.g. http://localhost:8080"
_AFRESH = "start Label Studio or correct --url, then run the command again: what has arrived is not sent twice"


class _LaterError(Exception):
    """Worth another try, of what only reads."""


class _ExpiredError(Exception):
    """The server does not know the token, or no longer."""


def read_token(variable: str, file: Path | None = None) -> str:
    """The API token in a file, or else in the environment variable of that name.

    Raises:
        InputError: there is none, or it is no token; it is not shown.
    """
    where = str(file) if file is not None else f"environment variable {variable}"
    try:
        token = file.read_text(encoding="utf-8") if file is not None else os.environ.get(variable, "")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"the token cannot be read: {reason}", where=where, fix="check the file") from None
    token = token.strip()
    if not token:
        fix = f"export {variable}=… with the token, or name a file that holds it with --token-file"
        raise InputError("there is no token for Label Studio", where=where, fix=fix)
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InputError("it holds characters that no token has", where=where, fix="put the token alone there")
    return token


class Client:
    """Asks one server.

    Args:
        url: its address, without the path of the API.
        token: a personal access token or a legacy one.
        timeout_s: until a request counts as failed.

    Raises:
        InputError: the address is none.
    """

    def __init__(self, url: str, token: str, timeout_s: float = 120.0) -> None:
        if not url.startswith(("http://", "https://")) or not netloc(url):
            raise InputError("this is no web address", where=f"--url {shown_address(url)}", fix=_URL_FIX)
        if "@" in netloc(url):
            fix = "leave them out: Label Studio asks for a token alone"
            raise InputError("the address holds a name or a password", where=f"--url {shown_address(url)}", fix=fix)
        self.url = url.rstrip("/").removesuffix("/api")
        self.shown = shown_address(self.url)
        self._token, self._timeout_s = token, timeout_s
        self._access = ""
        self._opener = urllib.request.build_opener(NoRedirect)

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON that GET gives.

        Raises:
            InputError: wrong address or token, or the server refuses; says what to do.
            NacreError: the server does not answer, or fails again and again.
        """
        return self._json(self._send("GET", path, None, query), path)

    def post(self, path: str, body: Any, **query: str | int) -> Any:
        """The JSON that POST gives; raises as `get`."""
        return self._json(self._send("POST", path, body, query), path)

    def patch(self, path: str, body: Any) -> Any:
        """The JSON that PATCH gives; raises as `get`."""
        return self._json(self._send("PATCH", path, body, {}), path)

    def download(self, path: str, file: Path, **query: str | int) -> Any:
        """Write the JSON that GET gives to a file, byte for byte, and return it; raises as `get`."""
        raw = self._send("GET", path, None, query)
        found = self._json(raw, path)
        atomic_write(file, raw)
        return found

    def _send(self, method: str, path: str, body: Any, query: dict[str, str | int]) -> bytes:
        reason = ""
        tries = _TRIES if method == "GET" else 1
        for tried in range(tries):
            if tried:
                time.sleep(BACKOFF_S * 2**tried)
            try:
                return self._authorised(method, path, body, query)
            except _LaterError as error:
                reason = str(error)
        again = f" {tries} times" if tries > 1 else ""
        raise NacreError(f"Label Studio does not answer{again}: {reason}", where=self.shown, fix=_AFRESH)

    def _authorised(self, method: str, path: str, body: Any, query: dict[str, str | int]) -> bytes:
        """One request; an access token that has expired is renewed once."""
        jwt = _JWT.fullmatch(self._token) is not None
        known = bool(self._access)
        for fresh in (False, True):
            if jwt and (fresh or not self._access):
                self._access = self._renewed()
            authorisation = f"Bearer {self._access}" if jwt else f"Token {self._token}"
            try:
                return self._once(method, path, body, query, authorisation)
            except _ExpiredError as error:
                if not (jwt and known) or fresh:
                    raise InputError(
                        f"Label Studio does not take the token: {error}", where=self.shown, fix=_TOKEN_FIX
                    ) from None
        raise AssertionError("the loop returns or raises")

    def _renewed(self) -> str:
        path = "/api/token/refresh/"
        try:
            found = self._json(self._once("POST", path, {"refresh": self._token}, {}, ""), path)
        except _ExpiredError as error:
            what = f"Label Studio does not take the personal access token: {error}"
            raise InputError(what, where=self.shown, fix=_TOKEN_FIX) from None
        access = found.get("access") if isinstance(found, dict) else None
        if not isinstance(access, str):
            raise InputError("this address gives no access token", where=f"{self.shown}{path}", fix=_URL_FIX)
        return access

    def _once(self, method: str, path: str, body: Any, query: dict[str, str | int], authorisation: str) -> bytes:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        headers |= {"Authorization": authorisation} if authorisation else {}
        address = f"{self.url}{path}{f'?{urlencode(query)}' if query else ''}"
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(address, data, headers, method=method)
            with self._opener.open(request, timeout=self._timeout_s) as response:
                raw: bytes = response.read()
                return raw
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error, path) from None
        except TimeoutError:
            raise _LaterError(f"no answer within {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:  # refused, reset or cut connections
            reason = getattr(error, "reason", error)
            raise _LaterError(str(reason) or type(reason).__name__) from None
        except ValueError:
            raise InputError("this is no web address", where=self.shown, fix=_URL_FIX) from None

    def _refused(self, error: urllib.error.HTTPError, path: str) -> Exception:
        said, where = self._said(error), f"{self.shown}{path}"
        if error.code == 401:
            return _ExpiredError(said)
        if error.code in _AGAIN:
            return _LaterError(f"status {error.code}: {said}")
        if 300 <= error.code < 400:
            target = shown_address(error.headers.get("Location", ""))
            fix = "set --url to the address that answers itself: redirects are not followed"
            return InputError(f"the address points to {target}", where=where, fix=fix)
        fixes = {
            403: "ask for the right to it, or use the token of somebody who has it",
            404: f"check that --project is one of this server; else {_URL_FIX}",
            413: "raise DATA_UPLOAD_MAX_MEMORY_SIZE of the server, or its proxy's limit",
        }
        fix = fixes.get(error.code, "correct what it names; nothing of this request was kept")
        return InputError(f"Label Studio refuses, status {error.code}: {said}", where=where, fix=fix)

    def _said(self, error: urllib.error.HTTPError) -> str:
        """Why, in the server's words and one line, without the token."""
        try:
            found = json.loads(error.read())
            said = found.get("validation_errors") or found.get("detail") or "no reason given"
            text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            text = "it answers with no JSON"
        for secret in filter(None, (self._token, self._access)):
            text = text.replace(secret, "…")
        return " ".join(text.split())[:300]

    def _json(self, raw: bytes, path: str) -> Any:
        try:
            return json.loads(raw)
        except ValueError:
            page = raw.lstrip()[:1] == b"<"
            what = "a web page answers here, not an API" if page else "what answers here is no JSON"
            raise InputError(what, where=f"{self.shown}{path}", fix=_URL_FIX) from None

"""One question to an OpenAI-compatible server, asked again where it failed.

The key goes to that server alone, and is never shown.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from nacre.base.addresses import netloc
from nacre.base.errors import InputError, NacreError
from nacre.base.redirects import NoRedirect

BACKOFF_S, LONGEST_WAIT_S = 0.5, 30.0
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)  # the server says: later


class _LaterError(Exception):
    """Worth another try."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class ChatServer:
    """A model behind an OpenAI-compatible server, and how errors speak of it.

    Attributes:
        url: of the API; `/chat/completions` may be left out.
        model: the name that the server knows it by.
        key_env: name of the environment variable that holds the API key.
        max_tokens, temperature: of a reply.
        timeout_s: until a request counts as failed; `retries` more are sent.
        who: what it is to the user, e.g. ``the judge``.
        settings: where the user configures it, e.g. ``evaluate.judge``; empty where its keys stand alone.
        kept: what the user need not fear for after a failure, in a few words.
    """

    url: str
    model: str
    key_env: str | None
    max_tokens: int
    temperature: float
    timeout_s: float
    retries: int
    who: str
    settings: str
    kept: str

    def key(self, name: str) -> str:
        """A key of the settings, as the user writes it."""
        return f"{self.settings}.{name}" if self.settings else name


class ChatClient:
    """Asks the server; safe to share between threads.

    Args:
        server: which server and model.

    Raises:
        InputError: the environment variable for the key is not set or holds no key, or the URL is none.
    """

    def __init__(self, server: ChatServer) -> None:
        self.server = server
        self._key = ""
        self._headers = {"Content-Type": "application/json"}
        if not server.url.startswith(("http://", "https://")):
            fix = "write the address with http:// or https://, e.g. http://localhost:8000/v1"
            raise InputError(f"the url of {server.who} is no web address", where=server.key("url"), fix=fix)
        if server.key_env is not None:
            self._key = _key(server.key_env, server.key("key_env"))
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._opener = urllib.request.build_opener(NoRedirect)
        self._url = server.url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self._where = ", ".join(filter(None, (server.settings, self._url)))

    def ask(self, prompt: str) -> str:
        """The reply.

        Raises:
            NacreError: it refuses, or still fails after `retries` more tries; says what to do.
        """
        reason = ""
        for tried in range(self.server.retries + 1):
            try:
                return self._once(prompt)
            except _LaterError as error:
                reason = str(error)
                wait_s = BACKOFF_S * 2**tried if error.wait_s is None else error.wait_s
                if tried < self.server.retries:
                    time.sleep(min(wait_s, LONGEST_WAIT_S))
        raise NacreError(
            f"{self.server.who} failed {self.server.retries + 1} times: {reason}",
            where=self._where,
            fix=f"start that server or correct {self.server.key('url')} (or timeout_s, retries), then run the command "
            f"again: {self.server.kept}",
        )

    def _once(self, prompt: str) -> str:
        body = {
            "model": self.server.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.server.temperature,
            "max_tokens": self.server.max_tokens,
        }
        request = urllib.request.Request(self._url, json.dumps(body).encode(), self._headers)
        try:
            with self._opener.open(request, timeout=self.server.timeout_s) as response:
                return _content(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except TimeoutError:
            raise _LaterError(f"no answer within {self.server.timeout_s:g} s") from None
        except (OSError, ValueError, http.client.HTTPException) as error:  # refused, reset or cut connections
            raise _LaterError(str(getattr(error, "reason", error))) from None

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        said = _message(error.read())
        if self._key:
            said = said.replace(self._key, "…")  # servers quote the key that they refuse
        if error.code in _AGAIN:
            after = error.headers.get("Retry-After", "")
            return _LaterError(f"status {error.code}: {said}", float(after) if after.isdigit() else None)
        fixes = {
            401: f"set {self.server.key('key_env')} to the name of the environment variable that holds the key",
            403: "use a key that may use this model",
            404: f"correct {self.server.key('url')} (it usually ends in /v1) or {self.server.key('model')}",
        }
        if 300 <= error.code < 400:
            # only the address: what else stands there may be private
            said = f"it points to {netloc(error.headers.get('Location', '')) or 'elsewhere'}"
            address = self.server.key("url")
            fixes[error.code] = f"set {address} to the address that answers itself: redirects are not followed"
        fix = fixes.get(error.code, f"correct {self.server.settings or 'the settings'}, or shorten the rows")
        return InputError(f"{self.server.who} refuses, status {error.code}: {said}", where=self._where, fix=fix)


def _key(name: str, where: str) -> str:
    """The API key in the environment variable of that name, without white space around it.

    Raises:
        InputError: there is none, or it holds what no header may hold; the key itself is not shown.
    """
    key = os.environ.get(name, "").strip()
    if not key:
        fix = f"export {name}=… with the API key"
        raise InputError(f"the environment variable {name} is not set", where=where, fix=fix)
    if not (key.isascii() and key.isprintable()):
        fix = f"export {name}=… with the key alone, in one line"
        raise InputError(f"the environment variable {name} holds characters that no API key has", where=where, fix=fix)
    return key


def _content(raw: bytes) -> str:
    """The text of a chat completion.

    Raises:
        _LaterError: it is none.
    """
    try:
        content = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise _LaterError(f"the reply is no chat completion: {raw[:80]!r}") from None
    return content if isinstance(content, str) else ""


def _message(raw: bytes) -> str:
    try:
        found: Any = json.loads(raw)["error"]
        return str(found["message"] if isinstance(found, dict) else found)[:200]
    except (ValueError, KeyError, TypeError):
        return raw[:200].decode(errors="replace").strip() or "no reason given"

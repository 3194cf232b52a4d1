"""One question to an OpenAI-compatible server, asked again where it failed."""

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from nacre.base.errors import InputError, NacreError
from nacre.records.judge import Judge

BACKOFF_S, LONGEST_WAIT_S = 0.5, 30.0
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)  # the server says: later


class _LaterError(Exception):
    """Worth another try."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: following it would hand the key to whatever host it names."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """None: urllib then raises the status as it came."""


class Client:
    """Asks the judge; safe to share between threads. The key goes to the judge's own address alone.

    Args:
        settings: which server and model.

    Raises:
        InputError: the environment variable for the key is not set or holds no key, or the URL is none.
    """

    def __init__(self, settings: Judge) -> None:
        self.settings = settings
        self._key = ""
        self._headers = {"Content-Type": "application/json"}
        if not settings.url.startswith(("http://", "https://")):
            fix = "write the address with http:// or https://, e.g. http://localhost:8000/v1"
            raise InputError("the judge's url is no web address", where="evaluate.judge.url", fix=fix)
        if settings.key_env is not None:
            self._key = _key(settings.key_env)
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._url = settings.url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"

    def ask(self, prompt: str) -> str:
        """The judge's reply.

        Raises:
            NacreError: it refuses, or still fails after `retries` more tries; says what to do.
        """
        reason = ""
        for tried in range(self.settings.retries + 1):
            try:
                return self._once(prompt)
            except _LaterError as error:
                reason = str(error)
                wait_s = BACKOFF_S * 2**tried if error.wait_s is None else error.wait_s
                if tried < self.settings.retries:
                    time.sleep(min(wait_s, LONGEST_WAIT_S))
        raise NacreError(
            f"the judge failed {self.settings.retries + 1} times: {reason}",
            where=f"evaluate.judge, {self._url}",
            fix="start that server or correct evaluate.judge (url, timeout_s, retries, parallel), then run the command "
            "again: the verdicts it gave are kept",
        )

    def _once(self, prompt: str) -> str:
        body = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self.settings.max_tokens,
        }
        request = urllib.request.Request(self._url, json.dumps(body).encode(), self._headers)
        try:
            with self._opener.open(request, timeout=self.settings.timeout_s) as response:
                return _content(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except TimeoutError:
            raise _LaterError(f"no answer within {self.settings.timeout_s:g} s") from None
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
            401: "set evaluate.judge.key_env to the name of the environment variable that holds the key",
            403: "use a key that may use this model",
            404: "correct evaluate.judge.url (it usually ends in /v1) or evaluate.judge.model",
        }
        if 300 <= error.code < 400:
            # only the address: what else stands there may be private
            said = f"it points to {urllib.parse.urlsplit(error.headers.get('Location', '')).netloc or 'elsewhere'}"
            fixes[error.code] = "set evaluate.judge.url to the address that answers itself: redirects are not followed"
        fix = fixes.get(error.code, "correct evaluate.judge, or shorten the rows")
        return InputError(
            f"the judge refuses, status {error.code}: {said}", where=f"evaluate.judge, {self._url}", fix=fix
        )


def _key(name: str) -> str:
    """The API key in the environment variable of that name, without white space around it.

    Raises:
        InputError: there is none, or it holds what no header may hold; the key itself is not shown.
    """
    key, where = os.environ.get(name, "").strip(), "evaluate.judge.key_env"
    if not key:
        fix = f"export {name}=… with the judge's API key"
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

"""One question to an OpenAI-compatible server, asked again where it failed."""

import http.client
import json
import os
import time
import urllib.error
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


class Client:
    """Asks the judge; safe to share between threads.

    Args:
        settings: which server and model.

    Raises:
        InputError: the environment variable for the key is not set, or the URL is none.
    """

    def __init__(self, settings: Judge) -> None:
        self.settings = settings
        self._headers = {"Content-Type": "application/json"}
        if not settings.url.startswith(("http://", "https://")):
            fix = "write the address with http:// or https://, e.g. http://localhost:8000/v1"
            raise InputError("the judge's url is no web address", where="evaluate.judge.url", fix=fix)
        if settings.key_env is not None:
            key = os.environ.get(settings.key_env, "")
            if not key:
                raise InputError(
                    f"the environment variable {settings.key_env} is not set",
                    where="evaluate.judge.key_env",
                    fix=f"export {settings.key_env}=… with the judge's API key",
                )
            self._headers["Authorization"] = f"Bearer {key}"
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
            with urllib.request.urlopen(request, timeout=self.settings.timeout_s) as response:
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
        if error.code in _AGAIN:
            after = error.headers.get("Retry-After", "")
            return _LaterError(f"status {error.code}: {said}", float(after) if after.isdigit() else None)
        fixes = {
            401: "set evaluate.judge.key_env to the name of the environment variable that holds the key",
            403: "use a key that may use this model",
            404: "correct evaluate.judge.url (it usually ends in /v1) or evaluate.judge.model",
        }
        fix = fixes.get(error.code, "correct evaluate.judge, or shorten the rows")
        return InputError(
            f"the judge refuses, status {error.code}: {said}", where=f"evaluate.judge, {self._url}", fix=fix
        )


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

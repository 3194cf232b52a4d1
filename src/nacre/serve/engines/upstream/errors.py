"""What went wrong at a server, as errors that clients may read: nothing of our key, no page of HTML."""

import re
from typing import Any

import orjson

from nacre.base.errors import NacreError
from nacre.serve.engines import ContextTooLong, EngineError, Overloaded, Refused

_LONGEST = 400
_LONGEST_PAUSE_S = 300  # that a client is told to wait
_WORD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
_CONTEXT = re.compile(r"context.{0,12}(length|size|window)|maximum context|longer than the model", re.IGNORECASE)
_SECRET = re.compile(r"(?i)\b(bearer\s+\S+|sk-[A-Za-z0-9_*.-]{4,})")


class Failed(Exception):
    """One try failed.

    Attributes:
        error: what the client is told if no other try is made.
        again: whether another try may succeed.
        broken: whether the server counts as broken for it, see `Breaker`.
        unknown_model: the server does not know the name we asked for: it may have lost an adapter.
    """

    def __init__(
        self, error: NacreError, *, again: bool = True, broken: bool = True, unknown_model: bool = False
    ) -> None:
        super().__init__(error.what)
        self.error, self.again, self.broken, self.unknown_model = error, again, broken, unknown_model


def refused(status: int, body: bytes, retry_after: str | None = None) -> Failed:
    """An answer that is not 200, with the header of that name."""
    message = told(body)
    if status in (401, 403):
        error = EngineError(f"the upstream refuses the server's key (status {status})", fix="see serve.upstream")
        return Failed(error, again=False, broken=False)
    if status == 404:
        error = EngineError(f"the upstream does not know the model or the route: {message}")
        return Failed(error, again=False, broken=False, unknown_model=True)
    if status in (429, 503):
        full = Overloaded(f"the upstream is overloaded: {message}", fix="try again later")
        if retry_after is not None and re.fullmatch(r"[0-9]{1,9}", retry_after):
            full.retry_s = max(1, min(int(retry_after), _LONGEST_PAUSE_S))
        return Failed(full, broken=False)
    if 300 <= status < 400:
        return Failed(EngineError(f"the upstream redirects (status {status}), which is not followed"), again=False)
    if status >= 500 or status < 400 or status == 408:
        error = EngineError(f"the upstream failed with status {status}: {message}")
        return Failed(error, again=status >= 400)  # what was taken without an answer would be asked for twice
    if _CONTEXT.search(message) or _word(body, "code") == "context_length_exceeded":
        return Failed(ContextTooLong(message), again=False, broken=False)
    refusal = Refused(f"the upstream refuses the request: {message}", where=_word(body, "param"))
    refusal.code = _word(body, "code") or None
    return Failed(refusal, again=False, broken=False)


def told(body: bytes) -> str:
    """What a server says about an error, short and printable."""
    found: Any = _parsed(body)
    for key in ("error", "message", "detail", "msg"):
        if isinstance(found, list) and found:  # FastAPI's list of what is wrong
            found = found[0]
        if isinstance(found, dict) and key in found:
            found = found[key]
    text = found if isinstance(found, str) else "no reason is given"
    return clean(text)


def clean(text: str) -> str:
    """One short line without what looks like a key."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * _LONGEST]).split())
    return _SECRET.sub("***", line)[:_LONGEST]


def of_event(data: dict[str, Any]) -> EngineError:
    """An error that came as an event of a stream that had begun."""
    error = data.get("error") or data.get("message")
    message = error.get("message") if isinstance(error, dict) else error
    return EngineError(f"the upstream failed: {clean(message) if isinstance(message, str) else 'no reason is given'}")


def _word(body: bytes, key: str) -> str:
    """What the error object has under `key`, where it is a short name."""
    found = _parsed(body)
    error = found.get("error") if isinstance(found, dict) else None
    word = error.get(key) if isinstance(error, dict) else None
    return word if isinstance(word, str) and _WORD.fullmatch(word) else ""


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None

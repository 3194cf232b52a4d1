"""What the server writes about itself: a line a request and a line an answer, without prompts and without keys.

An unexpected error is told by its type and the places in the code; its message may quote what a user sent, and is left
out. Where it may not be, `serve.log_content` writes questions and answers too.
"""

import asyncio
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import orjson

from nacre.base.clock import now
from nacre.serve.outcome import Outcome

log = logging.getLogger("nacre.serve")
_nacre = logging.getLogger("nacre")
requests = logging.getLogger("nacre.serve.requests")  # a child, so that it can be silenced alone

_FIELDS = "nacre_fields"  # attribute of a log record: what the line says beside its message
_SECRETS = re.compile(r"\bnk_[0-9a-f]{8}_[0-9a-f]+|(?i:\bbearer\s+)\S+")
_HIDDEN = "[key]"


def tell(message: str, fields: Mapping[str, Any]) -> None:
    """One line about a request. Fields hold our own words and numbers, never what a client sent."""
    if not requests.isEnabledFor(logging.INFO):
        return
    said = {"time": now(), "level": "info", "logger": requests.name, "message": message} | dict(fields)
    for handler in _nacre.handlers:
        if isinstance(handler, Lines):
            handler.add(said)
            return
    requests.info(message, extra={_FIELDS: fields})


def log_answer(outcome: Outcome, *, content: bool) -> None:
    """One line about an answer; with what was asked and answered only where `content` is set."""
    if not requests.isEnabledFor(logging.INFO):
        return
    fields: dict[str, Any] = {
        "response": outcome.id,
        "version": outcome.route.target.label,
        "arm": outcome.route.arm,
        "key": outcome.caller.id,
        "finish": outcome.finish,
        "prompt_tokens": outcome.prompt_tokens,
        "answer_tokens": outcome.answer_tokens,
        "seconds": round(outcome.latency_s, 4),
    }
    if content:
        turns = [{"role": turn.role, "content": turn.content} for turn in outcome.turns]
        fields |= {"messages": turns, "answer": outcome.answer}
    tell("answer", fields)


class Formatter(logging.Formatter):
    """A line a record, as JSON or as text, in which no key stands.

    Args:
        style: ``json`` or ``text``.
        secrets: keys of the configuration, which have no form to be known by.
    """

    def __init__(self, style: Literal["json", "text"], secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._json = style == "json"
        known = "|".join(re.escape(one) for one in sorted(filter(None, secrets), key=len, reverse=True))
        self._known = re.compile(known) if known else None

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said: dict[str, Any] = {
            "time": now(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= getattr(record, _FIELDS, {})
        if record.exc_info and record.exc_info[1] is not None:
            said |= _error(record.exc_info[1])
        return self.told(said)

    def told(self, said: Mapping[str, Any]) -> str:
        """The line that says this."""
        return self._clean(self._line(said))

    def lines(self, said: Iterable[Mapping[str, Any]]) -> str:
        """A line for each, with its end; all are looked through for keys at once."""
        return self._clean("".join(f"{self._line(one)}\n" for one in said))

    def _line(self, said: Mapping[str, Any]) -> str:
        if self._json:
            return orjson.dumps(said, default=str).decode()
        rest = " ".join(f"{name}={value}" for name, value in said.items() if name not in _HEAD)
        return f"{said['time']} {said['level']} {said['message']} {rest}".rstrip().replace("\n", "\\n")

    def _clean(self, line: str) -> str:
        if "nk_" in line or "bearer" in line.lower():  # far cheaper than the pattern, which looks at every word
            line = _SECRETS.sub(_HIDDEN, line)
        return self._known.sub(_HIDDEN, line) if self._known else line


class Lines(logging.StreamHandler[TextIO]):
    """Standard error, with a short way for the lines about requests, of which there are many.

    They are kept for a moment, so that many are made and written together: logging's own way, with a look at the
    caller's stack and a write of its own for each line, costs more than all else that is done for a request.
    """

    def __init__(self, formatter: Formatter) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(formatter)
        self._lines = formatter.lines
        self._kept: list[dict[str, Any]] = []

    def add(self, said: dict[str, Any]) -> None:
        """Have a line written soon; at once where no event loop runs."""
        self._kept.append(said)
        if len(self._kept) > 1:
            return
        try:
            asyncio.get_running_loop().call_later(_KEPT_S, self.flush)
        except RuntimeError:
            self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, behind what was said before it."""
        self._write_kept()
        super().emit(record)

    def flush(self) -> None:
        """Write what was kept; also called at the end of the process."""
        self._write_kept()
        super().flush()

    def _write_kept(self) -> None:
        self.acquire()
        try:
            while kept := self._kept[:]:
                del self._kept[: len(kept)]  # other threads may have added meanwhile
                self.stream.write(self._lines(kept))
        finally:
            self.release()


_KEPT_S = 0.05
_HEAD = ("time", "level", "logger", "message")


def _error(error: BaseException) -> dict[str, Any]:
    """Type and places of an error and of what caused it, without their messages."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    places = [f"{place.filename}:{place.lineno} {place.name}" for place in traceback.extract_tb(error.__traceback__)]
    return {"error": " from ".join(type(one).__name__ for one in chain), "at": places}


@contextmanager
def logging_to_stderr(style: Literal["json", "text", "off"], secrets: Iterable[str]) -> Iterator[None]:
    """Write what nacre and the HTTP server log to standard error, for the length of the block.

    Args:
        style: ``json``: a line a request; ``text``: what is amiss alone, and loads; ``off``: nothing but errors.
        secrets: see `Formatter`.
    """
    handler = Lines(Formatter("json" if style == "json" else "text", secrets))
    chosen = {
        logging.getLogger("nacre"): logging.ERROR if style == "off" else logging.INFO,
        logging.getLogger("uvicorn"): logging.ERROR if style == "off" else logging.WARNING,
    }
    if style != "json":
        chosen[requests] = logging.ERROR
    before = [(one, one.level, one.propagate) for one in chosen]
    for one, level in chosen.items():
        one.setLevel(level)
        if one is not requests:
            one.propagate = False
            one.addHandler(handler)
    try:
        yield
    finally:
        handler.flush()
        for one, level, propagate in before:
            one.setLevel(level)
            one.propagate = propagate
            one.removeHandler(handler)

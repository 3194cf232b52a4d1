"""What a server said, as pieces of an answer; whatever is not what OpenAI's API describes is an error."""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import orjson

from nacre.serve.engines import Delta, EngineError, Finish, Logprob
from nacre.serve.engines.upstream.calls import Calls, size
from nacre.serve.engines.upstream.errors import of_event
from nacre.serve.engines.upstream.sse import DONE

_log = logging.getLogger("nacre.serve")

Reason = Literal["stop", "length", "tool_calls", "content_filter"]
_REASONS: dict[str, Reason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_BYTES_NAME = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2})+)")  # how a token is named that is a part of a character
_MOST_TOKENS = 10**9  # no context is as long; the sums of more would not fit the ledger
BYTES_A_TOKEN = 4  # of text whose tokens nobody has counted
_MALFORMED = (KeyError, TypeError, IndexError, AttributeError, ValueError)  # JSON of another shape than expected


class _Found(NamedTuple):
    """What the choices of some events, or of an answer, have said."""

    texts: list[str]
    logprobs: list[Logprob]
    calls: list[Mapping[str, Any]]
    reasoning: list[str]

    def piece(self) -> Delta:
        """All of it in one piece."""
        reasoning = "".join(self.reasoning) if self.reasoning else ""
        return Delta("".join(self.texts), tuple(self.logprobs), tuple(self.calls), reasoning=reasoning)


class Reading:
    """What has been understood of one answer so far.

    Attributes:
        done: the stream has said that it is over.
        prompt_tokens: length of the prompt, from the usage at the end.
    """

    __slots__ = ("_bytes", "_cached", "_calls", "_chat", "_pieces", "_reason", "_told", "done", "prompt_tokens")

    def __init__(self, chat: bool) -> None:
        self._chat = chat
        self._calls = Calls()
        self._pieces = self._bytes = 0  # of what the model wrote: they stand in for the tokens where no usage is told
        self._reason: Reason | None = None
        self._told = self._cached = 0
        self.done = False
        self.prompt_tokens = 0

    @property
    def finished(self) -> bool:
        """Whether the answer is whole, though usage may still come."""
        return self._reason is not None

    def events(self, events: list[bytes]) -> Delta | None:
        """What the events of one network read say together, in one piece; None where it is nothing to show.

        Raises:
            EngineError: the server reports an error, or what it says is not JSON of the shape that is expected.
        """
        if events[-1] == DONE:
            self.done = True
            events = events[:-1]
        try:  # one call of the JSON parser for all of them
            chunks = orjson.loads(b"[" + b",".join(events) + b"]")
        except orjson.JSONDecodeError:
            raise EngineError("the upstream sent an event that is not JSON") from None
        found = _Found([], [], [], [])
        try:
            for chunk in chunks:
                if choices := chunk.get("choices"):
                    self._choice(choices[0], "delta", found)
                elif chunk.get("error") or chunk.get("object") == "error":
                    raise of_event(chunk)
                if usage := chunk.get("usage"):
                    self._read_usage(usage)
            piece = found.piece()
        except _MALFORMED:
            raise EngineError("the upstream sent an event of another shape than OpenAI's API has") from None
        self._pieces += len(found.texts) + len(found.reasoning) + len(found.calls)
        self._bytes += _written(piece)
        return piece if any(found) else None

    def whole(self, body: bytes) -> Delta:
        """The answer that came in one piece. Raises as `events` does."""
        found = _Found([], [], [], [])
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise EngineError("the upstream's answer is not JSON") from None
        try:
            if answer.get("error") and not answer.get("choices"):
                raise of_event(answer)
            self._choice(answer["choices"][0], "message", found)
            self._read_usage(answer.get("usage") or {})
            piece = found.piece()
        except _MALFORMED:
            raise EngineError("the upstream's answer has another shape than OpenAI's API has") from None
        self.done = True
        self._pieces = 1 + _written(piece) // BYTES_A_TOKEN
        return replace(piece, whole=True)

    def finish(self) -> Finish:
        """The end.

        Raises:
            EngineError: the answer broke off before it said how it ended.
        """
        if self._reason is None:
            raise EngineError("the upstream's answer broke off before its end")
        return Finish(self._reason, self.tokens, self._cached)

    @property
    def tokens(self) -> int:
        """Tokens of the answer: as the server counted, else the pieces that came, or a token for four bytes of text,
        reasoning and tool calls where that is more, as one piece may hold many.
        """
        return self._told or max(self._pieces, self._bytes // BYTES_A_TOKEN)

    def _choice(self, choice: Any, part: str, found: "_Found") -> None:
        said = choice[part] if self._chat else choice
        if said:
            text = said.get("content" if self._chat else "text") or said.get("refusal")
            if text:
                found.texts.append(text)
            if calls := said.get("tool_calls"):
                found.calls.extend(self._calls.numbered(calls, whole=part == "message"))
            if reasoning := said.get("reasoning_content") or said.get("reasoning"):  # vLLM's older and newer name
                found.reasoning.append(reasoning)
        if told := choice.get("logprobs"):
            found.logprobs.extend(_chat_logprobs(told) if self._chat else _completion_logprobs(told))
        if reason := choice.get("finish_reason"):
            self._reason = _REASONS.get(reason) or _strange(reason, told=self._reason is not None)

    def _read_usage(self, usage: Mapping[str, Any]) -> None:
        self.prompt_tokens = counted(usage.get("prompt_tokens"))
        self._told = counted(usage.get("completion_tokens"))
        self._cached = counted((usage.get("prompt_tokens_details") or {}).get("cached_tokens"))


def counted(value: Any) -> int:
    """A number of tokens that a server told; 0, as where it told none, for one that cannot be."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0  # true is an int to isinstance


def _written(piece: Delta) -> int:
    """Bytes of what the model wrote."""
    said = len(piece.text.encode()) + len(piece.reasoning.encode())
    return said + size(piece.tool_calls) if piece.tool_calls else said


def _strange(reason: Any, told: bool) -> Reason:
    """What an unknown reason is taken as; `told`: the answer had a reason before, one line in the log is enough."""
    if reason in ("abort", "error"):
        raise EngineError("the upstream gave the answer up")
    if not told:
        _log.warning("the upstream ends an answer with the unknown reason %.40r; taken as 'stop'", reason)
    return "stop"


def _chat_logprobs(told: Any) -> list[Logprob]:
    return [
        Logprob(
            _text(each),
            _raw(each),
            _number(each["logprob"]),
            tuple((_text(one), _raw(one), _number(one["logprob"])) for one in each.get("top_logprobs") or ()),
        )
        for each in told.get("content") or ()
    ]


def _completion_logprobs(told: Any) -> list[Logprob]:
    tops = told.get("top_logprobs") or [None] * len(told["tokens"])
    return [
        Logprob(
            token,
            _named_bytes(token),
            None if logprob is None else _number(logprob),
            tuple((text, _named_bytes(text), _number(value)) for text, value in (top or {}).items()),
        )
        for token, logprob, top in zip(told["tokens"], told["token_logprobs"], tops, strict=True)
    ]


def _named_bytes(token: str) -> bytes:
    """The bytes of a token that is told by its text alone."""
    named = _BYTES_NAME.fullmatch(token)
    return bytes.fromhex(named[1].replace("\\x", "")) if named else token.encode("utf-8", "surrogatepass")


def _text(each: Any) -> str:
    token = each["token"]
    if not isinstance(token, str):
        raise TypeError("token")
    return token


def _number(value: Any) -> float:
    if type(value) not in (float, int):  # float() would take "nan" as well
        raise TypeError("logprob")
    return float(value)


def _raw(each: Any) -> bytes:
    """The token's bytes; servers that do not tell them leave us its text."""
    found = each.get("bytes")
    if found is None:
        return _text(each).encode()
    if not isinstance(found, list):  # bytes() of a number is as many zeros
        raise TypeError("bytes")
    return bytes(found)

"""How answers look on the wire: chat and text completions, whole and in chunks, with their log probabilities."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from nacre.serve.engines import Delta, Logprob

_LEAST_LOGPROB = -9999.0  # JSON has no minus infinity


@dataclass
class Choice:
    """One answer of a request while it comes about."""

    index: int
    text: str = ""
    logprobs: list[Logprob] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    reasoning: str = ""
    reason: str = ""

    @cached_property
    def offsets(self) -> "Offsets":
        """Where the tokens of its chunks begin."""
        return Offsets()

    def add(self, piece: Delta) -> None:
        """Take the next piece."""
        self.text += piece.text
        self.logprobs += piece.logprobs
        self.reasoning += piece.reasoning
        for part in piece.tool_calls:
            _merge_call(self.tool_calls, part)


def _merge_call(calls: list[dict[str, Any]], part: Any) -> None:
    """A streamed piece of a tool call into the calls so far: texts of equal keys are joined."""
    index = part.get("index")
    place = len(calls) if index is None else index
    while len(calls) <= place:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[place], part.get("function") or {}
    call["id"] = part.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


class Shape(Protocol):
    """One of OpenAI's two forms of an answer."""

    prefix: str
    whole: str
    chunk: str

    def opening(self, choice: Choice) -> dict[str, Any] | None:
        """The choice of its first chunk, where there is one before any text."""

    def piece(self, choice: Choice, piece: Delta, with_logprobs: bool) -> dict[str, Any]:
        """The choice of a chunk that carries a piece."""

    def ending(self, choice: Choice) -> dict[str, Any]:
        """The choice of its last chunk."""

    def answer(self, choice: Choice, with_logprobs: bool) -> dict[str, Any]:
        """The choice of an answer that is not streamed."""


class ChatShape:
    """``/v1/chat/completions``."""

    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self, choice: Choice) -> dict[str, Any] | None:
        """The role."""
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def piece(self, choice: Choice, piece: Delta, with_logprobs: bool) -> dict[str, Any]:
        """Text, or pieces of tool calls."""
        silent = not piece.text and (piece.tool_calls or piece.reasoning)
        delta: dict[str, Any] = {} if silent else {"content": piece.text}
        if piece.reasoning:
            delta["reasoning_content"] = piece.reasoning
        if piece.tool_calls:
            delta["tool_calls"] = [dict(part) for part in piece.tool_calls]
        return self._chunk(choice, delta, _chat_logprobs(piece.logprobs) if with_logprobs else None)

    def ending(self, choice: Choice) -> dict[str, Any]:
        """The finish reason."""
        return self._chunk(choice, {}) | {"finish_reason": choice.reason}

    def answer(self, choice: Choice, with_logprobs: bool) -> dict[str, Any]:
        """The message."""
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if choice.tool_calls:
            message |= {"content": choice.text or None, "tool_calls": choice.tool_calls}
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        logprobs = _chat_logprobs(choice.logprobs) if with_logprobs else None
        return {"index": choice.index, "message": message, "logprobs": logprobs, "finish_reason": choice.reason}

    def _chunk(self, choice: Choice, delta: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
        return {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


class TextShape:
    """``/v1/completions``."""

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def opening(self, choice: Choice) -> dict[str, Any] | None:
        """None: the first chunk has text."""
        return None

    def piece(self, choice: Choice, piece: Delta, with_logprobs: bool) -> dict[str, Any]:
        """Text."""
        logprobs = _text_logprobs(piece.logprobs, choice.offsets) if with_logprobs else None
        return {"index": choice.index, "text": piece.text, "logprobs": logprobs, "finish_reason": None}

    def ending(self, choice: Choice) -> dict[str, Any]:
        """The finish reason."""
        return {"index": choice.index, "text": "", "logprobs": None, "finish_reason": choice.reason}

    def answer(self, choice: Choice, with_logprobs: bool) -> dict[str, Any]:
        """The text."""
        logprobs = _text_logprobs(choice.logprobs, Offsets()) if with_logprobs else None
        return {"index": choice.index, "text": choice.text, "logprobs": logprobs, "finish_reason": choice.reason}


class Offsets:
    """Where tokens begin in the text, in characters; bytes of an unfinished character add nothing yet."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0

    def next(self, raw: bytes) -> int:
        """The offset of the token with these bytes."""
        before = self._characters
        self._characters += len(self._decoder.decode(raw))
        return before


def _chat_logprobs(tokens: Sequence[Logprob]) -> dict[str, Any]:
    def told(token: str, raw: bytes, logprob: float | None) -> dict[str, Any]:
        return {"token": token, "logprob": _finite(logprob or 0.0), "bytes": list(raw)}

    content = [
        told(token.token, token.raw, token.logprob) | {"top_logprobs": [told(*likely) for likely in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _text_logprobs(tokens: Sequence[Logprob], offsets: Offsets) -> dict[str, Any]:
    """The older form: parallel lists. A token of the prompt that nothing stands before has no log probability."""
    return {
        "tokens": [_name(token.token, token.raw) for token in tokens],
        "token_logprobs": [None if token.logprob is None else _finite(token.logprob) for token in tokens],
        "top_logprobs": [_likely(token) for token in tokens],
        "text_offset": [offsets.next(token.raw) for token in tokens],
    }


def _likely(token: Logprob) -> dict[str, float] | None:
    """The likeliest tokens and the one that came."""
    if token.logprob is None:
        return None
    likely = {_name(text, raw): _finite(logprob) for text, raw, logprob in token.top}
    return likely | {_name(token.token, token.raw): _finite(token.logprob)}


def _name(token: str, raw: bytes) -> str:
    r"""A token's text; one that is no text of its own as ``bytes:\xe7\x8f``, so that different ones differ."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
    return token


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST_LOGPROB)

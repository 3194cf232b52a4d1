"""A chat request: what is understood, what is refused by name, and what is ignored and said so."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nacre.records import ChatTurn, Message
from nacre.serve.engines import Sampling
from nacre.serve.gateway.errors import ApiError, invalid

_MOST_STOPS = 4
_LONGEST_STOP = 256
_MOST_NAMED = 20

# Parameters that would change the answer and are not served: only a value that changes nothing is taken.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}


class _Part(BaseModel):
    """Base of the request's parts: exact types, unknown keys kept so that they can be named."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


def _flat_text(content: Any) -> Any:
    """Content parts as one text."""
    if not isinstance(content, list):
        return content
    texts = []
    for place, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f'part {place} must be {{"type": "text", "text": "…"}}; this server reads text only')
        texts.append(part["text"])
    return "".join(texts)


def _stop_list(stop: Any) -> Any:
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS:
        raise ValueError(f"a text or a list of at most {_MOST_STOPS} texts is expected")
    if any(not isinstance(text, str) or not 0 < len(text) <= _LONGEST_STOP for text in stops):
        raise ValueError(f"each stop must be a text of 1 to {_LONGEST_STOP} characters")
    return stops


class Turn(_Part):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_flat_text)]


class StreamOptions(_Part):
    """`include_usage` adds a chunk with the token counts."""

    include_usage: bool = False


class ChatRequest(_Part):
    """The body of ``POST /v1/chat/completions``, after OpenAI's reference."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[str], BeforeValidator(_stop_list)] = Field(default_factory=list)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    user: str | None = Field(default=None, max_length=512)

    @property
    def sampling(self) -> Sampling:
        """How the answer is to be drawn; `max_completion_tokens` counts before the older `max_tokens`."""
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(self.stop),
        )

    @property
    def system(self) -> str:
        """The system or developer messages the conversation opens with, as one text."""
        return "\n\n".join(turn.content for turn in self.messages[: self._opening])

    @property
    def conversation(self) -> tuple[Message, ...]:
        """What follows the system messages."""
        return tuple(
            Message(role="assistant" if turn.role == "assistant" else "user", content=turn.content)
            for turn in self.messages[self._opening :]
        )

    @property
    def turns(self) -> tuple[ChatTurn, ...]:
        """The request as it is kept beside the answer."""
        return tuple(ChatTurn(role=turn.role, content=turn.content) for turn in self.messages)

    @property
    def ignored(self) -> list[str]:
        """Keys that were sent and have no effect, at most 20 named."""
        names = sorted(set(_extras(self)))
        more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
        return names[:_MOST_NAMED] + more

    @property
    def _opening(self) -> int:
        kinds = [turn.role in ("system", "developer") for turn in self.messages]
        return kinds.index(False) if False in kinds else len(kinds)


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Validate a chat request; JSON null means that the key was not sent.

    Raises:
        ApiError: 400 that names the parameter.
    """
    given = {key: value for key, value in body.items() if value is not None}
    for name, harmless in _HARMLESS.items():
        if name in given and given.pop(name) not in harmless:
            raise invalid(f"'{name}' is not supported by this server: leave it out", name, "unsupported_parameter")
    try:
        request = ChatRequest.model_validate(given)
    except ValidationError as error:
        raise _first_problem(error) from None
    if request.stream_options is not None and not request.stream:
        raise invalid("'stream_options' needs 'stream': true", "stream_options")
    _check_order(request)
    return request


def _check_order(request: ChatRequest) -> None:
    """Refuse what the rendering could only put in another place or leave out."""
    turns = request.messages
    if not request.conversation:
        raise invalid("a user message is needed after the system messages", "messages")
    opening = len(turns) - len(request.conversation)
    for place, turn in enumerate(turns):
        if place >= opening and turn.role in ("system", "developer"):
            raise invalid("system messages must come before the others", f"messages[{place}].role")
        if (turn.model_extra or {}).get("tool_calls"):
            raise invalid(
                "tool calls are not supported by this server", f"messages[{place}].tool_calls", "unsupported_parameter"
            )


def _first_problem(error: ValidationError) -> ApiError:
    problem = error.errors(include_url=False, include_context=False)[0]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "missing":
        return invalid(f"'{param}' is missing", param, "missing_required_parameter")
    message = problem["msg"].removeprefix("Value error, ")
    return invalid(f"bad value for '{param}': {message}", param, "invalid_value")


def _extras(request: ChatRequest) -> Iterator[str]:
    parts: list[tuple[str, _Part | None]] = [("", request), ("stream_options.", request.stream_options)]
    parts += [("messages[].", turn) for turn in request.messages]
    for prefix, part in parts:
        for name, value in ((part.model_extra if part else None) or {}).items():
            if value is not None:
                yield prefix + (name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else "(unprintable)")

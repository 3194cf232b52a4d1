"""A chat request: what is understood, what is refused by name, and what is ignored and said so."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field

from nacre.records import ChatTurn
from nacre.serve.api.parts import MOST_LOGPROBS, AnswerRequest, Part, Question, parsed
from nacre.serve.engines import ChatPrompt, Feature, JsonFormat, Sampling
from nacre.serve.gateway.errors import invalid
from nacre.serve.settings import GenerationDefaults

_MOST_TOOLS = 128
_MOST_MESSAGES = 4096


class TextPart(Part):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class CalledFunction(Part):
    """The function a model wants called; `arguments` is JSON as the model wrote it."""

    name: str
    arguments: str


class ToolCall(Part):
    """A call the model asked for."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


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


class Turn(Part):
    """One message of the conversation. Only an assistant's that has `tool_calls` may lack its content."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_flat_text, json_schema_input_type=str | list[TextPart] | None)] = (
        None
    )
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def kept(self) -> ChatTurn:
        """As it is kept, and as chat templates take it: roles and texts as training rows have them."""
        if self.tool_calls:
            return ChatTurn(role="function", content=called_text([call.model_dump() for call in self.tool_calls]))
        return ChatTurn(role="observation" if self.role == "tool" else self.role, content=self.content or "")

    def sent(self) -> dict[str, Any]:
        """As OpenAI's API has it, for engines that pass it on."""
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls is not None:
            said["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            said["tool_call_id"] = self.tool_call_id
        return said


_SYSTEM = ("system", "developer")


def called_text(calls: list[dict[str, Any]]) -> str:
    """Tool calls as training rows have them: ``{"name": …, "arguments": …}``, several as a list."""
    try:
        return _written(calls, _read_arguments)
    except RecursionError:  # a model that only ever opens brackets
        return _written(calls, lambda text: text)


def _written(calls: list[dict[str, Any]], read: Callable[[str], Any]) -> str:
    functions = [call.get("function") or {} for call in calls]
    said = [{"name": one.get("name", ""), "arguments": read(one.get("arguments") or "{}")} for one in functions]
    return json.dumps(said[0] if len(said) == 1 else said, ensure_ascii=False)


def _read_arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # what a model wrote need not be JSON
        return text


class FunctionTool(Part):
    """A function's description; `parameters` is a JSON Schema."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Part):
    """Something the model may call."""

    type: Literal["function"]
    function: FunctionTool


class NamedFunction(Part):
    """A function by name."""

    name: str


class ToolChoice(Part):
    """The one function that must be called."""

    type: Literal["function"]
    function: NamedFunction


class NamedSchema(Part):
    """A JSON Schema the answer must fit; it always must, `strict` or not."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Part):
    """What shape the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class ChatRequest(AnswerRequest):
    """The body of ``POST /v1/chat/completions``, after OpenAI's reference."""

    harmless: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "functions": ([],),
        "function_call": ("none",),
        "modalities": (["text"],),
        "parallel_tool_calls": (True,),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
    }

    messages: Annotated[list[Turn], FailFast()] = Field(min_length=1, max_length=_MOST_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1, description="counts before max_tokens")
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], FailFast()] = Field(default_factory=list, max_length=_MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    safety_identifier: str | None = Field(default=None, max_length=512, description="stands in where `user` is missing")

    def questions(self) -> list[Question]:
        """The conversation."""
        opening, kept = self._opening, tuple([turn.kept for turn in self.messages])
        prompt = ChatPrompt(
            messages=kept[opening:],
            system="\n\n".join([turn.content or "" for turn in self.messages[:opening]]) if opening else "",
            turns=tuple([turn.sent() for turn in self.messages]),
            tools=tuple([tool.model_dump(exclude_none=True) for tool in self.tools]),
            tool_choice=self.tool_choice.model_dump() if isinstance(self.tool_choice, ToolChoice) else self.tool_choice,
        )
        return [Question(prompt, kept)]

    def needs(self) -> Iterator[tuple[Feature, str]]:
        """See `AnswerRequest.needs`."""
        yield from super().needs()
        if self.logprobs:
            yield "logprobs", "logprobs"
        if self.response_format is not None and self.response_format.type != "text":
            yield "json", "response_format"
        if self.tools:
            yield "tools", "tools"
        opening = self._opening
        for place, turn in enumerate(self.messages):
            if turn.tool_calls:
                yield "tools", f"messages[{place}].tool_calls"
            if turn.role == "tool":
                yield "tools", f"messages[{place}].role"
            elif place >= opening and turn.role in _SYSTEM:
                yield "late_system", f"messages[{place}].role"

    def sampling(self, defaults: GenerationDefaults, **more: Any) -> Sampling:
        """See `AnswerRequest.sampling`; `max_completion_tokens` counts before the older `max_tokens`."""
        if self.logprobs:
            more["logprobs"] = self.top_logprobs or 0
        if self.response_format is not None:
            more["format"] = self._json_format()
        if self.max_completion_tokens:
            more["max_tokens"] = self.max_completion_tokens
        return super().sampling(defaults, **more)

    @property
    def asks_for_length(self) -> bool:
        """Whether the request itself says how long the answer may get."""
        return self.max_completion_tokens is not None or super().asks_for_length

    @property
    def named_user(self) -> str:
        """Whom the client asks for, in its own words; may be empty."""
        return self.user or self.safety_identifier or ""

    def checked(self) -> "ChatRequest":
        """Refuse what the rendering could only put in another place or leave out, too."""
        super().checked()
        for place, turn in enumerate(self.messages):
            self._check_turn(place, turn)
        if self._opening == len(self.messages):
            raise invalid("a user message is needed after the system messages", "messages")
        if self.top_logprobs and not self.logprobs:
            raise invalid("'top_logprobs' needs 'logprobs': true", "top_logprobs")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise invalid("'tool_choice' needs 'tools'", "tool_choice")
        if self.response_format is not None and self.response_format.type == "json_schema":
            shape = self.response_format.json_schema
            if shape is None or shape.json_schema is None:
                name = "response_format.json_schema" + ("" if shape is None else ".schema")
                raise invalid(f"'{name}' is missing", name, "missing_required_parameter")
        return self

    def _check_turn(self, place: int, turn: Turn) -> None:
        if turn.content is None and not turn.tool_calls:
            name = f"messages[{place}].content"
            raise invalid(f"'{name}' is missing", name, "missing_required_parameter")
        if turn.tool_calls and turn.role != "assistant":
            raise invalid("only an assistant calls tools", f"messages[{place}].tool_calls")
        if turn.role == "tool" and not turn.tool_call_id:
            name = f"messages[{place}].tool_call_id"
            raise invalid(f"'{name}' is missing", name, "missing_required_parameter")

    def _json_format(self) -> JsonFormat | None:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        return JsonFormat(wanted.json_schema.json_schema if wanted.json_schema else None)

    @cached_property
    def _opening(self) -> int:
        """How many system messages the conversation opens with."""
        for place, turn in enumerate(self.messages):
            if turn.role not in _SYSTEM:
                return place
        return len(self.messages)


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Validate a chat request.

    Raises:
        ApiError: 400 that names the parameter.
    """
    return parsed(ChatRequest, body).checked()

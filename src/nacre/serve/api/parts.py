"""What the requests for an answer have in common: how it is drawn, what is refused by name, what is ignored."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nacre.base.errors import nearest
from nacre.records import ChatTurn
from nacre.serve.engines import Feature, Prompt, Sampling
from nacre.serve.gateway.errors import ApiError, invalid
from nacre.serve.settings import GenerationDefaults

MOST_LOGPROBS = 20
_MOST_STOPS = 4
_LONGEST_STOP = 256
_MOST_BIASES = 1024
_MOST_NAMED = 20

T = TypeVar("T", bound="Part")


class Part(BaseModel):
    """Base of the request's parts: exact types, unknown keys kept so that they can be named."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    harmless: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Keys of OpenAI's API that would change the answer and are not served: the values that change nothing."""

    def ignored(self, prefix: str = "") -> Iterator[str]:
        """Keys that were sent and have no effect, those of the parts within included."""
        for name, value in (self.__pydantic_extra__ or {}).items():
            if value is not None:
                yield prefix + (name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else "(unprintable)")
        for name in _holders(type(self)):
            value = getattr(self, name)
            if not value:
                continue
            many = isinstance(value, list)
            for part in value if many else [value]:
                if isinstance(part, Part):
                    yield from part.ignored(f"{prefix}{name}{'[]' if many else ''}.")


@cache
def _holders(kind: type[Part]) -> tuple[str, ...]:
    """The fields that may hold parts: found once, since all the others need no look at every request."""
    return tuple(name for name, field in kind.model_fields.items() if _names_part(field.annotation))


def _names_part(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return True
    return any(_names_part(part) for part in get_args(annotation))


def parsed(kind: type[T], body: Mapping[str, Any]) -> T:
    """Validate a body; JSON null means that the key was not sent.

    Raises:
        ApiError: 400 that names the parameter.
    """
    given = {key: value for key, value in body.items() if value is not None}
    for name, harmless in kind.harmless.items():
        if name in given and given.pop(name) not in harmless:
            raise not_served(name)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise first_problem(error, kind.model_fields) from None


def not_served(name: str, why: str = "by this server") -> ApiError:
    """400 for a parameter that is known and cannot be honoured."""
    return invalid(f"'{name}' is not supported {why}: leave it out", name, "unsupported_parameter")


def first_problem(error: ValidationError, known: Iterable[str]) -> ApiError:
    """400 for the first thing that is wrong with a body whose keys are `known`; tells no value that was sent."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")[:200]
    if problem["type"] == "missing":
        return invalid(f"'{param}' is missing", param, "missing_required_parameter")
    if problem["type"] == "extra_forbidden":
        close = nearest(param, known)
        hint = f": did you mean '{close}'?" if close else f"; known: {', '.join(known)}"
        return invalid(f"unknown key '{param}'{hint}", param, "unknown_parameter")
    message = problem["msg"].removeprefix("Value error, ")
    return invalid(f"bad value for '{param}': {message}", param, "invalid_value")


@dataclass(frozen=True)
class Question:
    """One prompt of a request.

    Attributes:
        prompt: for the engine.
        turns: as it is kept beside the answer; None where there is nothing to keep.
    """

    prompt: Prompt
    turns: tuple[ChatTurn, ...] | None


class StreamOptions(Part):
    """`include_usage` adds a chunk with the token counts."""

    include_usage: bool = False


def _stop_list(stop: Any) -> Any:
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS:
        raise ValueError(f"a text or a list of at most {_MOST_STOPS} texts is expected")
    if any(not isinstance(text, str) or not 0 < len(text) <= _LONGEST_STOP for text in stops):
        raise ValueError(f"each stop must be a text of 1 to {_LONGEST_STOP} characters")
    return stops


def _biases(given: Any) -> Any:
    """`{"token id": bias}` with numbers for ids, which JSON cannot have."""
    if not isinstance(given, dict) or len(given) > _MOST_BIASES:
        raise ValueError(f"an object of at most {_MOST_BIASES} token ids is expected")
    if any(re.fullmatch(r"[0-9]{1,9}", token) is None for token in given):
        raise ValueError("the keys must be token ids")
    return {int(token): bias for token, bias in given.items()}


_DRAWN = tuple(GenerationDefaults.model_fields)
_CHANGING = (
    ("presence_penalty", 0),
    ("frequency_penalty", 0),
    ("repetition_penalty", 1),
    ("top_k", 0),
    ("min_p", 0),
)

_StopText = Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]
_Stops = _StopText | Annotated[list[_StopText], Field(max_length=_MOST_STOPS)]
_Bias = Annotated[float, Field(ge=-100, le=100)]


class AnswerRequest(Part, ABC):
    """What chats and completions have in common. What is None is left to the version's defaults."""

    model: str = Field(max_length=200)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, description="answers to each prompt")
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=0, lt=2**31, description="0 for all; not in OpenAI's API")
    min_p: float | None = Field(default=None, ge=0, le=1, description="not in OpenAI's API")
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="not in OpenAI's API")
    logit_bias: Annotated[dict[int, _Bias], BeforeValidator(_biases, json_schema_input_type=dict[str, _Bias])] = Field(
        default_factory=dict
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[str], BeforeValidator(_stop_list, json_schema_input_type=_Stops)] = Field(default_factory=list)
    max_tokens: int | None = Field(default=None, ge=1)
    user: str | None = Field(default=None, max_length=512)
    store: bool | None = Field(default=None, description="false: the answer is not kept and takes no feedback")

    @abstractmethod
    def questions(self) -> list[Question]:
        """The prompts, in order."""

    def needs(self) -> Iterator[tuple[Feature, str]]:
        """What an engine must be able to do beside text, each with the parameter that asks for it."""
        said = self.__dict__
        for name, nothing in _CHANGING:
            if (value := said[name]) is not None and value != nothing:
                yield "penalties", name
        if self.logit_bias:
            yield "penalties", "logit_bias"

    def sampling(self, defaults: GenerationDefaults, **more: Any) -> Sampling:
        """How an answer is drawn where the version's defaults hold for what was not said; `more` counts before both."""
        said, chosen = self.__dict__, defaults.__dict__
        for name in _DRAWN:
            value = said[name]
            if value is None:
                value = chosen[name]
            if value is not None:
                more.setdefault(name, value)
        return Sampling(
            **more,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            seed=self.seed,
            stop=tuple(self.stop),
            # Whether a default length fits is to be known before anything is answered.
            stream=self.stream or (chosen["max_tokens"] is not None and not self.asks_for_length),
        )

    @property
    def asks_for_length(self) -> bool:
        """Whether the request itself says how long the answer may get."""
        return self.max_tokens is not None

    @property
    def named_user(self) -> str:
        """Whom the client asks for, in its own words; may be empty."""
        return self.user or ""

    def ignored_names(self) -> list[str]:
        """Keys without effect, at most 20 named."""
        return self._ignored_names

    @cached_property
    def _ignored_names(self) -> list[str]:
        names = sorted(set(self.ignored()))
        more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
        return names[:_MOST_NAMED] + more

    def checked(self) -> Self:
        """What no single key shows.

        Raises:
            ApiError: 400 that names the parameter.
        """
        if self.stream_options is not None and not self.stream:
            raise invalid("'stream_options' needs 'stream': true", "stream_options")
        return self

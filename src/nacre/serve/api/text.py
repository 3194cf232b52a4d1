"""A completion request: text or token ids that the model goes on with, without any chat template."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from nacre.records import ChatTurn
from nacre.serve.api.parts import MOST_LOGPROBS, AnswerRequest, Question, parsed
from nacre.serve.engines import Feature, Sampling, TextPrompt
from nacre.serve.gateway.errors import invalid
from nacre.serve.settings import GenerationDefaults

MOST_INPUTS = 2048  # as OpenAI's API has it
_DEFAULT_TOKENS = 16  # the same

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
_Many = Field(min_length=1, max_length=MOST_INPUTS)
_Ids = Annotated[list[TokenId], Field(min_length=1)]
Inputs = str | Annotated[list[str], _Many] | _Ids | Annotated[list[_Ids], _Many]


def text_or_ids(given: Any) -> Any:
    """One text, a list of texts, one list of token ids or a list of such: as a list of `TextPrompt`.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(given, str):
        return [TextPrompt(given)]
    if isinstance(given, list) and given:
        if len(given) > MOST_INPUTS and not isinstance(given[0], int):
            raise ValueError(f"at most {MOST_INPUTS} at once")
        if all(isinstance(item, str) for item in given):
            return [TextPrompt(item) for item in given]
        if _are_ids(given):
            return [TextPrompt(tuple(given))]
        if all(isinstance(item, list) and item and _are_ids(item) for item in given):
            return [TextPrompt(tuple(item)) for item in given]
    raise ValueError("a text, a list of texts, a list of token ids or a list of such lists is expected, none empty")


def _are_ids(items: list[Any]) -> bool:
    return all(type(item) is int and 0 <= item < 2**31 for item in items)


class CompletionRequest(AnswerRequest):
    """The body of ``POST /v1/completions``, after OpenAI's reference."""

    harmless: ClassVar[Mapping[str, tuple[Any, ...]]] = {"suffix": ("",), "best_of": (1,)}

    prompt: Annotated[list[TextPrompt], BeforeValidator(text_or_ids, json_schema_input_type=Inputs)]
    echo: bool = Field(default=False, description="the answer begins with the prompt")
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    max_tokens: int | None = Field(default=None, ge=0, description="16 unless told; 0 only with echo")

    def questions(self) -> list[Question]:
        """The prompts. Token ids, and prompts that are only to be scored, are nothing to keep."""
        return [Question(prompt, None if self.echo else _turns(prompt)) for prompt in self.prompt]

    def needs(self) -> Iterator[tuple[Feature, str]]:
        """See `AnswerRequest.needs`."""
        yield from super().needs()
        if self.logprobs is not None:
            yield "logprobs", "logprobs"
        if self.echo:
            yield "echo", "echo"

    def sampling(self, defaults: GenerationDefaults, **more: Any) -> Sampling:
        """See `AnswerRequest.sampling`."""
        drawn = super().sampling(defaults, **more)
        tokens = _DEFAULT_TOKENS if drawn.max_tokens is None else drawn.max_tokens
        return replace(drawn, max_tokens=tokens, logprobs=self.logprobs, echo=self.echo)

    def checked(self) -> "CompletionRequest":
        """See `AnswerRequest.checked`."""
        super().checked()
        if self.max_tokens == 0 and not self.echo:
            raise invalid("'max_tokens': 0 needs 'echo': true", "max_tokens", "invalid_value")
        return self


def _turns(prompt: TextPrompt) -> tuple[ChatTurn, ...] | None:
    return (ChatTurn(role="user", content=prompt.text),) if isinstance(prompt.text, str) else None


def parse_completion(body: dict[str, Any]) -> CompletionRequest:
    """Validate a completion request.

    Raises:
        ApiError: 400 that names the parameter.
    """
    return parsed(CompletionRequest, body).checked()

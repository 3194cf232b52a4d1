"""What answers: the protocol every engine keeps, and the table of engines. Importing this imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from nacre.base.errors import InputError, NacreError
from nacre.base.plugins import Table
from nacre.records import ChatTurn, Message, Weights

ENGINES = Table(
    "engine",
    {
        "embedded": "nacre.serve.engines.embedded:EmbeddedEngine",
        "upstream": "nacre.serve.engines.upstream.engine:UpstreamEngine",
        "ctranslate2": "nacre.serve.engines.ct2:CTranslate2Engine",
    },
)


def engine_class(name: str) -> Any:
    """The class of the engine of that name.

    Raises:
        InputError: there is none, or the package that it needs is not installed.
    """
    try:
        return ENGINES.load(name, where="serve.engine")
    except ImportError as error:
        what = f"the engine {name} needs a package that is not installed: {error.name}"
        raise InputError(what, where="serve.engine", fix="pip install 'nacre[export]'") from None


Feature = Literal["logprobs", "echo", "json", "tools", "penalties", "embeddings", "late_system"]


@dataclass(frozen=True)
class Target:
    """A version to serve. `version` is its number in the ledger; 0 for a plain model folder."""

    version: int
    weights: Weights

    @property
    def label(self) -> str:
        """What clients are told: the version's number, or the start of the weights' identity."""
        return str(self.version) if self.version else self.weights.identity[:12]


@dataclass(frozen=True)
class ChatPrompt:
    """A conversation, which the model's chat template renders.

    Attributes:
        messages: what follows the opening; system messages among them (feature ``late_system``) as `ChatTurn`.
        system: the opening system messages as one text; may be empty.
        turns: the conversation as it was sent, for engines that pass it on (tool calls and their answers included).
        tools: function descriptions as OpenAI's API has them.
        tool_choice: as sent; None where nothing was.
    """

    messages: tuple[Message | ChatTurn, ...]
    system: str = ""
    turns: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None


@dataclass(frozen=True)
class TextPrompt:
    """A text, or its token ids, that the model goes on with; no template."""

    text: str | tuple[int, ...]


Prompt = ChatPrompt | TextPrompt


@dataclass(frozen=True)
class JsonFormat:
    """The answer must be JSON: an object, or what `schema` (JSON Schema) describes."""

    schema: Mapping[str, Any] | None = None


@dataclass(slots=True)  # not frozen, as a frozen one takes three times as long to make; nobody changes it
class Sampling:
    """How one answer is drawn.

    Attributes:
        max_tokens: most tokens in the answer; None for as many as the context holds.
        temperature: 0 takes the likeliest token each time.
        top_p: only the likeliest tokens that together reach this probability are drawn from.
        top_k: only that many of the likeliest tokens are drawn from; 0 for all.
        min_p: tokens below this share of the likeliest one's probability are not drawn.
        presence_penalty: taken once from the logit of each token that the answer has.
        frequency_penalty: taken as many times as the answer has the token.
        repetition_penalty: logits of tokens in prompt and answer are divided (positive) or multiplied (negative) by it.
        logit_bias: added to the logits of these token ids.
        seed: equal seeds give equal text; None draws a fresh one.
        stop: the answer ends before the first of these texts.
        logprobs: how many of the likeliest tokens are told beside each token's own log probability; None tells none.
        echo: the first piece is the prompt, with its log probabilities where `logprobs` asks for them.
        format: what shape the answer must have.
        tenant: whose request it is; beginnings of prompts are kept for requests of the same tenant only, because
            what was read before answers sooner, and so tells what others have asked.
        stream: whether pieces are wanted as they come; an engine may give what is not as one piece.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo: bool = False
    format: JsonFormat | None = None
    tenant: str = ""
    stream: bool = True


@dataclass(frozen=True)
class Logprob:
    """One token of an answer, in nats.

    Attributes:
        token: its text, with U+FFFD for bytes that are no character of their own.
        raw: its bytes.
        logprob: log probability the model gave it, before temperature and other sampling; None for a prompt's first.
        top: the likeliest tokens at its place: text, bytes, log probability.
    """

    token: str
    raw: bytes
    logprob: float | None
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass(frozen=True)
class Delta:
    """The next piece of the answer: whole characters, never part of a stop text.

    Attributes:
        logprobs: of the tokens that became certain with this piece, where they were asked for.
        tool_calls: as OpenAI's stream has them, from engines that pass them on.
        reasoning: what a model says to itself before it answers, from engines that tell it apart.
        whole: whether it is the whole answer, which came at once and so does not say when it began.
    """

    text: str
    logprobs: tuple[Logprob, ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    whole: bool = False
    reasoning: str = ""


@dataclass(frozen=True)
class Finish:
    """The end of an answer, and how many tokens the model made for it.

    Attributes:
        cached_tokens: tokens of the prompt that had been read before, for another request.
    """

    reason: Literal["stop", "length", "tool_calls", "content_filter", "aborted"]
    tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Embeddings:
    """One vector an input, of length 1, and the tokens that all inputs took together."""

    vectors: tuple[tuple[float, ...], ...]
    tokens: int


class Generation(Protocol):
    """One running answer. The version that gives it is settled and stays."""

    @property
    def target(self) -> Target:
        """The version that answers."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the rendered prompt; 0 until it is known, which it is at `Finish`."""

    async def next(self) -> Delta | Finish:
        """The next piece; after `Finish` nothing comes.

        Raises:
            EngineError: the engine could not go on.
        """

    def cancel(self) -> None:
        """Stop within one token: `next` gives ``Finish("aborted", …)``. Harmless after the end."""


class Engine(Protocol):
    """Holds the versions that may answer, several at a time.

    A swap is `load` (slow, beside what runs), a change of the routes (instant, not the engine's), and `unload`
    of what is no longer routed to: accepted requests end on the version they began with, which is freed after the
    last of them.
    """

    @property
    def features(self) -> frozenset[Feature]:
        """What it can do beside text. Requests that need more are refused by name before they reach it."""

    @property
    def loaded(self) -> tuple[Target, ...]:
        """The versions that answer now."""

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""

    async def load(self, target: Target) -> None:
        """Bring a version into memory; returns at once where it is there.

        Raises:
            NacreError: the weights cannot be loaded.
        """

    async def unload(self, target: Target) -> None:
        """Take no more requests for a version, and free it after its last. Harmless where it is not loaded."""

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> Generation:
        """Accept a request. Everything that can be refused is refused here, before any computing.

        Raises:
            NotLoaded: that version is not loaded.
            Overloaded: too many requests wait already.
            ContextTooLong: prompt and answer do not fit the model's context.
            InputError: the chat template refuses the conversation, or the format cannot be enforced.
        """

    async def embed(self, target: Target, inputs: Sequence[TextPrompt]) -> Embeddings:
        """One vector for each input. Only where `features` has ``embeddings``. Raises as `generate` does."""

    async def close(self) -> None:
        """Stop; answers still running fail with `EngineError`."""


class EngineError(NacreError):
    """The engine could not answer."""


class NotLoaded(EngineError):
    """The version is not loaded."""


def stopped() -> EngineError:
    """What is told once an engine is closed."""
    return EngineError("the engine has stopped", fix="restart the server")


class Overloaded(EngineError):
    """Too many requests wait; `retry_s`: in how many seconds another try makes sense."""

    retry_s = 1


class Refused(InputError):
    """A server that was asked for the answer refuses the request; `code`: its short name for the reason."""

    code: str | None = None


class ContextTooLong(InputError):
    """Prompt and answer do not fit the model's context."""

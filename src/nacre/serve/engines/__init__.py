"""What answers: the protocol every engine keeps, and the table of engines. Importing this imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nacre.base.errors import InputError, NacreError
from nacre.base.plugins import Table
from nacre.records import Message, Weights

ENGINES = Table("engine", {"embedded": "nacre.serve.engines.embedded:EmbeddedEngine"})


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
class Sampling:
    """How one answer is drawn.

    Attributes:
        max_tokens: most tokens in the answer; None for as many as the context holds.
        temperature: 0 takes the likeliest token each time.
        top_p: only the likeliest tokens that together reach this probability are drawn from.
        seed: equal seeds give equal text; None draws a fresh one.
        stop: the answer ends before the first of these texts.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delta:
    """The next piece of the answer's text: whole characters, never part of a stop text."""

    text: str


@dataclass(frozen=True)
class Finish:
    """The end of an answer, and how many tokens the model made for it."""

    reason: Literal["stop", "length", "aborted"]
    tokens: int


class Generation(Protocol):
    """One running answer. The version that gives it is settled and stays."""

    @property
    def target(self) -> Target:
        """The version that answers."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the rendered prompt."""

    async def next(self) -> Delta | Finish:
        """The next piece; after `Finish` nothing comes.

        Raises:
            EngineError: the engine could not go on.
        """

    def cancel(self) -> None:
        """Stop within one token: `next` gives ``Finish("aborted", …)``. Harmless after the end."""


class Engine(Protocol):
    """Holds one version that answers, and loads the next beside it.

    A swap is `load` (slow, beside the running version) followed by `swap` (instant): new requests go to the
    new version, accepted ones end on the version they began with, which is freed after the last of them.
    """

    @property
    def target(self) -> Target | None:
        """The version that answers new requests, if there is one."""

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""

    async def load(self, target: Target) -> Any:
        """Bring a version into memory without serving it; returns what `swap` takes.

        Raises:
            NacreError: the weights cannot be loaded.
        """

    def swap(self, loaded: Any | None) -> None:
        """Let a loaded version answer from now on; None lets nothing answer."""

    async def generate(self, messages: tuple[Message, ...], system: str, sampling: Sampling) -> Generation:
        """Accept a request. Everything that can be refused is refused here, before any computing.

        Raises:
            NotLoaded: no version is loaded.
            Overloaded: too many requests wait already.
            ContextTooLong: prompt and answer do not fit the model's context.
            InputError: the chat template refuses the conversation.
        """

    async def close(self) -> None:
        """Stop; answers still running fail with `EngineError`."""


class EngineError(NacreError):
    """The engine could not answer."""


class NotLoaded(EngineError):
    """No version is loaded."""


class Overloaded(EngineError):
    """Too many requests wait."""


class ContextTooLong(InputError):
    """Prompt and answer do not fit the model's context."""

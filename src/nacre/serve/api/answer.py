"""An answer while it comes about: one or more choices of one version, what is told about it and what is kept."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.types import Receive

from nacre import __version__
from nacre.base.errors import InputError
from nacre.serve.api.chat import called_text
from nacre.serve.api.parts import AnswerRequest, Question
from nacre.serve.api.shapes import Choice, Shape
from nacre.serve.engines import Delta, Finish, Generation, Overloaded, Sampling
from nacre.serve.gateway.callers import Caller
from nacre.serve.gateway.wishes import Wishes
from nacre.serve.knowledge.retrieval import Retrieved
from nacre.serve.outcome import Outcome
from nacre.serve.routing import Route
from nacre.serve.service import Service

_WATCHED_AFTER_S = 0.02
NOT_ITS_FAULT = (InputError, Overloaded)  # what says nothing about the version, and is not kept as its error


@dataclass(slots=True)  # not frozen, as a frozen one takes three times as long to make; nobody changes it
class Asked:
    """A request that was understood, and whose it is.

    Attributes:
        body: the request.
        questions: its prompts.
        ids: one for each choice: n for the first prompt, then n for the next.
        caller: who asks.
        user: as `Live.route` knows it and as it is kept.
        wishes: whether the answers are kept for feedback, and may be learned from.
        plain: whether it is for text alone: no tools, no second choice.
    """

    body: AnswerRequest
    questions: tuple[Question, ...]
    ids: tuple[str, ...]
    caller: Caller
    user: str
    wishes: Wishes
    started_s: float = field(default_factory=time.monotonic)
    plain: bool = True

    def question(self, index: int) -> Question:
        """What the choice at `index` answers."""
        return self.questions[index // self.body.n]


@dataclass
class Answer:
    """All choices of one request, from one version; `found`: what it was given of the documents, if any."""

    service: Service
    asked: Asked
    route: Route
    sampling: Sampling
    shape: Shape
    generations: Sequence[Generation]
    created: int = field(default_factory=lambda: int(time.time()))
    found: Retrieved | None = None

    def __post_init__(self) -> None:
        self.choices = [Choice(index) for index in range(len(self.generations))]
        self.finishes: list[Finish | None] = [None] * len(self.choices)
        self.first_tokens_s: list[float | None] = [None] * len(self.choices)
        wanted = getattr(self.asked.body, "logprobs", None)
        self.with_logprobs = wanted is not None and wanted is not False  # completions ask with 0 for the token's own

    def headers(self, content_type: str) -> list[tuple[bytes, bytes]]:
        """What every answer is sent with."""
        headers = [
            (b"content-type", content_type.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # nginx passes each event on at once
            (b"x-nacre-response-id", ", ".join(self.asked.ids).encode()),
            (b"x-nacre-version", self.route.target.label.encode()),
            (b"x-nacre-arm", self.route.arm.encode()),
        ]
        ignored = self.asked.body.ignored_names()
        if ignored:
            headers.append((b"x-nacre-ignored", ", ".join(ignored).encode()))
        if self.found is not None:
            headers += self.found.headers()
        return headers

    def head(self, kind: str) -> dict[str, Any]:
        """What a whole answer and each of its chunks begin with."""
        target = self.route.target
        return {
            "id": self.asked.ids[0],
            "object": kind,
            "created": self.created,
            "model": self.service.full_name(target),
            "system_fingerprint": f"nacre-{__version__}-{self.service.settings.engine}-{target.weights.identity[:12]}",
        }

    def sources(self) -> dict[str, Any]:
        """What the body says of the documents it was given; nothing where there are none to ask."""
        return {} if self.found is None else {"nacre": self.found.told()}

    def usage(self) -> dict[str, Any]:
        """Tokens of all choices; each prompt counts once."""
        first = range(0, len(self.choices), self.asked.body.n)
        prompt = sum(self.generations[index].prompt_tokens for index in first)
        made = sum(finish.tokens for finish in self.finishes if finish)
        cached = sum(finish.cached_tokens for index in first if (finish := self.finishes[index]))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    @property
    def aborted(self) -> bool:
        """Whether the client went away before the end."""
        return any(finish is not None and finish.reason == "aborted" for finish in self.finishes)

    async def pieces(self) -> AsyncGenerator[tuple[Choice, Delta | Finish], None]:
        """What the engine gives, each with the choice it belongs to; every choice that ends is kept.

        Raises:
            NacreError: the engine could not go on; the choices that had not ended are kept as such.
        """
        with _KeptAnyway(self):
            if len(self.generations) == 1:  # by far the most requests: no tasks, no queue
                piece: Delta | Finish | None = None
                while not isinstance(piece, Finish):
                    piece = await self.generations[0].next()
                    self._take(0, piece)
                    yield self.choices[0], piece
                return
            async with aclosing(_merged(self.generations)) as merged:
                async for index, one in merged:
                    self._take(index, one)
                    yield self.choices[index], one

    async def collect(self) -> None:
        """Take all pieces. Raises as `pieces` does."""
        if len(self.generations) > 1:
            async for _ in self.pieces():
                pass
            return
        piece: Delta | Finish | None = None
        with _KeptAnyway(self):
            while not isinstance(piece, Finish):
                piece = await self.generations[0].next()
                self._take(0, piece)

    def cancel(self) -> None:
        """Stop all choices."""
        for generation in self.generations:
            generation.cancel()

    def _take(self, index: int, piece: Delta | Finish) -> None:
        if isinstance(piece, Delta):
            if self.first_tokens_s[index] is None and not piece.whole:
                self.first_tokens_s[index] = time.monotonic() - self.asked.started_s
            self.choices[index].add(piece)
            return
        self.finishes[index], self.choices[index].reason = piece, piece.reason
        self._keep(index, piece.reason, piece.tokens)

    def keep_open_ones(self, reason: str) -> None:
        """Keep the choices that have not ended, with the reason why they will not."""
        for index, finish in enumerate(self.finishes):
            if finish is None:
                self._keep(index, reason, 0)

    def _keep(self, index: int, reason: str, tokens: int) -> None:
        choice = self.choices[index]
        said = choice.text or (called_text(choice.tool_calls) if choice.tool_calls else "")
        told = Told(said, reason, (self.generations[index].prompt_tokens, tokens), self.first_tokens_s[index])
        keep(self.service, self.asked, self.route, self.sampling, index, told)


class _KeptAnyway:
    """Keeps an answer's open choices where its block is left by an error: the version's, or the client's leaving."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """What is to be kept, if anything is."""
        if error is not None and not isinstance(error, NOT_ITS_FAULT):
            left = isinstance(error, GeneratorExit | asyncio.CancelledError)  # nobody wants the rest
            self._answer.keep_open_ones("aborted" if left else "error")


class Told(NamedTuple):
    """How one choice ended: its text, OpenAI's finish reason, tokens read and written, seconds to the first of them."""

    answer: str = ""
    finish: str = "error"
    tokens: tuple[int, int] = (0, 0)
    first_token_s: float | None = None


_NOTHING = Told()


def keep(
    service: Service,
    asked: Asked,
    route: Route,
    sampling: Sampling,
    index: int,
    told: Told = _NOTHING,
) -> None:
    """Tell the service how one choice ended; without an answer as `error`."""
    question = asked.question(index)
    outcome = Outcome(
        id=asked.ids[index],
        route=route,
        caller=asked.caller,
        user=asked.user,
        prompt=question.prompt,
        sampling=sampling,
        turns=question.turns or (),
        answer=told.answer,
        finish=told.finish,
        prompt_tokens=told.tokens[0],
        answer_tokens=told.tokens[1],
        latency_s=time.monotonic() - asked.started_s,
        keep=asked.wishes.keep and question.turns is not None,
        plain=asked.plain,
        consent=asked.wishes.consent,
        first_token_s=told.first_token_s,
    )
    service.ended(outcome)


def version_headers(route: Route) -> dict[str, str]:
    """Which version answered, and as what."""
    return {"x-nacre-version": route.target.label, "x-nacre-arm": route.arm}


async def _merged(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Delta | Finish], None]:
    """The pieces of all generations as they come, each with its generation's place."""
    waiting = {asyncio.ensure_future(one.next()): index for index, one in enumerate(generations)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=waiting.__getitem__):
                index, piece = waiting.pop(task), task.result()
                if isinstance(piece, Delta):
                    waiting[asyncio.ensure_future(generations[index].next())] = index
                yield index, piece
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


class CancelledWhenGone:
    """Stop the answer when the client disconnects, and whenever the block is left before its end.

    Answers that are there at once are not watched: that would cost more than they do.
    """

    def __init__(self, receive: Receive, answer: Answer) -> None:
        self._receive, self._answer = receive, answer
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        """Begin to watch, a moment later."""
        self._timer = asyncio.get_running_loop().call_later(_WATCHED_AFTER_S, self._begin)

    async def __aexit__(self, *_: object) -> None:
        """Watch no more."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        self._answer.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._answer.cancel()

"""One request: its state between two steps, and the way its text takes to the event loop.

Shapes: P positions of a piece, V vocabulary, D hidden size.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch

from nacre.base.errors import NacreError
from nacre.serve.engines import Delta, EngineError, Finish, Logprob, Sampling, Target
from nacre.serve.engines.embedded.drawing import Draw, Drawn, likeliest
from nacre.serve.engines.embedded.runners import BARE
from nacre.serve.engines.text import Decoder, Opening, StopTexts

if TYPE_CHECKING:
    from nacre.serve.engines.embedded.residents import Resident

Reason = Literal["stop", "length", "aborted"]


class Row(ABC):
    """Tokens to be read: `ids`, of which `read` lie in its seat.

    Attributes:
        resident: the version that reads; None once the row has ended.
        adapter: by whom; decided late where a router decides.
        routing: whether this reading only serves the router.
        hidden_D: the sum of last hidden states so far, where they are wanted.
        tenant: whose prompt it is; None for what shares no beginning with any other.
        whole: whether the logits of every token of the prompt are wanted, which a cached beginning does not have.
    """

    whole = False
    wants_hidden = False
    tenant: str | None = None

    def __init__(self, resident: "Resident", ids: list[int]) -> None:
        self.resident: Resident | None = resident
        self.target: Target = resident.target
        self.ids, self.read = ids, 0
        self.prompt_tokens = len(ids)
        self.cached_tokens = 0
        self.seat: Any = None
        self.routing = resident.router is not None and resident.router.needs_reading
        self.adapter = BARE if self.routing else resident.only_adapter
        self.hidden_D: torch.Tensor | None = None
        self.cancelled = False
        self.done = False
        self.spoilt = False  # what it leaves in its seat may be no numbers
        self.loop = asyncio.get_running_loop()

    def add_hidden(self, hidden_D: torch.Tensor | None) -> None:
        """Of one piece."""
        if hidden_D is not None:
            self.hidden_D = hidden_D if self.hidden_D is None else self.hidden_D + hidden_D

    def start_over(self) -> None:
        """Nothing is read any more: another adapter reads, or the memory was needed."""
        self.read, self.hidden_D = 0, None

    @abstractmethod
    def fail(self, error: NacreError) -> None:
        """End with an error."""

    @abstractmethod
    def delivery(self) -> Callable[[], None] | None:
        """What brings the outcome of the last step to its reader; is to run on `loop`."""


class Embedding(Row):
    """One text whose mean hidden state is asked for."""

    wants_hidden = True
    whole = True

    def __init__(self, resident: "Resident", ids: list[int]) -> None:
        super().__init__(resident, ids)
        self.vector: asyncio.Future[tuple[float, ...]] = self.loop.create_future()
        self._found: tuple[float, ...] | NacreError | None = None

    def fail(self, error: NacreError) -> None:
        """See `Row`."""
        self.done = self.spoilt = True
        self._found = error

    def finish(self) -> None:
        """The whole text is read."""
        assert self.hidden_D is not None
        mean_D = self.hidden_D.double().cpu() / len(self.ids)
        length = float(mean_D.norm())
        self.done = True
        if not 0 < length < float("inf"):
            self.fail(EngineError("the model failed: its hidden states are not numbers", fix="see the weights"))
            return
        self._found = tuple((mean_D / length).tolist())

    def delivery(self) -> Callable[[], None] | None:
        """See `Row`."""
        return self._set if self._found is not None else None

    def _set(self) -> None:
        if self.vector.done():  # nobody waits any more
            return
        if isinstance(self._found, NacreError):
            self.vector.set_exception(self._found)
        elif self._found is not None:
            self.vector.set_result(self._found)


class Answer(Row):
    """One answer that is being written: `nacre.serve.engines.Generation`."""

    def __init__(
        self,
        resident: "Resident",
        ids: list[int],
        sampling: Sampling,
        draw: Draw,
        on_cancel: "Callable[[Answer], None]",
        *,
        max_tokens: int,
        echo: str | None = None,
        chat: bool = True,
    ) -> None:
        super().__init__(resident, ids)
        self.draw = draw
        self.whole = echo is not None and sampling.logprobs is not None
        self.tenant = sampling.tenant
        self._sampling, self._max_tokens, self._echo = sampling, max_tokens, echo
        self._prompt_logprobs: list[Logprob] = []
        self._decoder = Decoder(resident.tokenizer)
        self._opening = Opening(resident.empty_thought if chat else "")
        self._stops = StopTexts((*sampling.stop, *(resident.stop_texts if chat else ())))
        self._tokens = 0
        self._texts = resident.texts
        self._stop_ids = resident.stop_ids
        self._heard = _Heard()
        self._outbox: list[Delta | Finish | NacreError] = []
        self._pieces: asyncio.Queue[Delta | Finish | NacreError] = asyncio.Queue()
        self._on_cancel = on_cancel

    # The engine thread's side.

    def heard_prompt(self, logits_PV: torch.Tensor, start: int) -> None:
        """Note the log probabilities of the prompt's tokens after each position from `start` on."""
        count = self._sampling.logprobs or 0
        if start == 0:
            self._prompt_logprobs = [self._texts.told(self.ids[0], None, ())]
        for place, logits_V in enumerate(logits_PV, start + 1):
            if place >= self.prompt_tokens:
                return
            logprobs_V = logits_V.to("cpu", torch.float32).double().log_softmax(-1)
            token = self.ids[place]
            self._prompt_logprobs.append(
                self._texts.told(token, float(logprobs_V[token]), likeliest(logprobs_V, count))
            )

    def say_prompt(self) -> bool:
        """Give the prompt back where that is asked for; False if nothing more is."""
        if self._echo is not None:
            self._outbox.append(Delta(self._echo, tuple(self._prompt_logprobs)))
            self._echo, self._prompt_logprobs, self.whole = None, [], False
        if self._max_tokens == 0:
            self._finish("length")
        return not self.done

    def accept(self, drawn: Drawn) -> None:
        """Go on with a token, and pass on the text that became certain."""
        token = drawn.token
        complete = self.draw.accept(token)
        self._tokens += 1
        if token in self._stop_ids:
            self._finish("stop")
            return
        self.ids.append(token)
        new = self._decoder.add(token)
        if drawn.logprob is not None:
            self._heard.add(self._texts.told(token, drawn.logprob, drawn.top), len(new))
        self._give(self._stops.add(self._opening.add(new)))
        if self._stops.stopped or complete:
            self._finish("stop")
        elif self._tokens >= self._max_tokens:
            self._finish("length")

    def fail(self, error: NacreError) -> None:
        """End with an error instead of a finish."""
        self.done = self.spoilt = True
        self._outbox.append(error)

    def delivery(self) -> Callable[[], None] | None:
        """See `Row`."""
        if not self._outbox:
            return None
        pieces, self._outbox = self._outbox, []
        return lambda: self._put(pieces)

    def _finish(self, reason: Reason) -> None:
        if not self._stops.stopped:
            self._give(self._stops.add(self._opening.rest()) + self._stops.rest())
        rest = self._heard.rest(stopped=self._stops.stopped)
        if rest:
            self._outbox.append(Delta("", rest))
        self.done = True
        self._outbox.append(Finish(reason, self._tokens, self.cached_tokens))

    def _give(self, text: str) -> None:
        heard = self._heard.given(len(text))
        if text or heard:
            self._outbox.append(Delta(text, heard))

    # The event loop's side: `Generation`.

    def _put(self, pieces: list[Delta | Finish | NacreError]) -> None:
        if not self.cancelled:
            for piece in pieces:
                self._pieces.put_nowait(piece)

    async def next(self) -> Delta | Finish:
        """See `nacre.serve.engines.Generation`."""
        piece = await self._pieces.get()
        if isinstance(piece, NacreError):
            raise piece
        return piece

    def cancel(self) -> None:
        """See `nacre.serve.engines.Generation`."""
        if not (self.cancelled or self.done):
            self.cancelled = True
            self._pieces.put_nowait(Finish("aborted", self._tokens, self.cached_tokens))
            self._on_cancel(self)


class _Heard:
    """Log probabilities that wait for their tokens' text to be given."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Logprob, int, int]] = deque()  # from and up to which character of the text
        self._decoded = self._given = 0

    def add(self, told: Logprob, characters: int) -> None:
        """A token, and how many characters became certain with it."""
        begin = self._decoded
        self._decoded += characters
        self._waiting.append((told, begin, begin + max(characters, 1)))

    def given(self, characters: int) -> tuple[Logprob, ...]:
        """So many characters more were given: the tokens that are through with them."""
        self._given += characters
        through = []
        while self._waiting and self._waiting[0][2] <= self._given:
            through.append(self._waiting.popleft()[0])
        return tuple(through)

    def rest(self, *, stopped: bool) -> tuple[Logprob, ...]:
        """At the end: what is left; after a stop text only what begins before it."""
        left = [told for told, begin, _ in self._waiting if not stopped or begin < self._given]
        self._waiting.clear()
        return tuple(left)

"""The engine inside the server process: transformers on this machine, one thread that computes.

A request is bound to the version that is loaded when it is accepted, so a swap moves nothing that has begun:
the old version answers what it accepted and is freed with the last of it. The thread runs one `_Sequence` at a
time; what a sequence needs between two tokens is all in it (`forward`, then `accept`), so that a scheduler can
interleave or batch them without touching the rest.
"""

import asyncio
import inspect
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from nacre.base.errors import InputError, NacreError
from nacre.model.chat import empty_thought, prompt_ids, stop_ids, stop_texts
from nacre.model.load import load_model, load_tokenizer
from nacre.records import Message
from nacre.serve.engines import (
    ChatPrompt,
    ContextTooLong,
    Delta,
    Embeddings,
    EngineError,
    Feature,
    Finish,
    NotLoaded,
    Overloaded,
    Prompt,
    Sampling,
    Target,
    TextPrompt,
)
from nacre.serve.engines.sampling import sample
from nacre.serve.engines.text import Decoder, Opening, StopTexts
from nacre.serve.settings import Serve

_log = logging.getLogger("nacre.serve")


class _Resident:
    """A version in memory."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tokenizer = load_tokenizer(target.weights)
        self.model: Any = load_model(target.weights)
        self.stop_ids = stop_ids(self.tokenizer)
        self.stop_texts = stop_texts(self.tokenizer)
        self.empty_thought = empty_thought(self.tokenizer)
        self.context_tokens = _context_tokens(self.model, target.weights.folder)
        causal = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        # Logits of the last position only: those of a long prompt would take gigabytes.
        keeps = "logits_to_keep" in inspect.signature(causal.forward).parameters
        self._forward_options = {"logits_to_keep": 1} if keeps else {}

    def forward(self, ids: list[int], cache: DynamicCache) -> torch.Tensor:
        """Logits over the vocabulary for the token after `ids`; `cache` grows by them."""
        ids_BT = torch.tensor([ids], device=self.model.device)
        output = self.model(input_ids=ids_BT, past_key_values=cache, use_cache=True, **self._forward_options)
        logits_V: torch.Tensor = output.logits[0, -1]
        return logits_V


class _Sequence:
    """One request: its state between two tokens, and the way its text takes to the event loop."""

    def __init__(
        self,
        resident: _Resident,
        prompt: list[int],
        sampling: Sampling,
        max_tokens: int,
        on_cancel: "Callable[[_Sequence], None]",
    ) -> None:
        self.resident = resident
        self.prompt_tokens = len(prompt)
        self.cancelled = False
        self.done = False
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._next_ids = prompt
        self._cache = DynamicCache(config=resident.model.config)
        self._generator = torch.Generator(device=resident.model.device)
        self._generator.manual_seed(secrets.randbits(63) if sampling.seed is None else sampling.seed)
        self._decoder = Decoder(resident.tokenizer)
        self._opening = Opening(resident.empty_thought)
        self._stops = StopTexts((*sampling.stop, *resident.stop_texts))
        self._tokens = 0
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Delta | Finish | NacreError] = asyncio.Queue()
        self._on_cancel = on_cancel

    # The engine thread's side.

    def forward(self) -> torch.Tensor:
        """Logits for the next token."""
        return self.resident.forward(self._next_ids, self._cache)

    def accept(self, logits_V: torch.Tensor) -> None:
        """Draw the next token and pass on the text that became certain."""
        token = sample(logits_V, self._sampling.temperature, self._sampling.top_p, self._generator)
        self._next_ids = [token]
        self._tokens += 1
        if token in self.resident.stop_ids:
            self._finish("stop")
            return
        self._give(self._stops.add(self._opening.add(self._decoder.add(token))))
        if self._stops.stopped:
            self._finish("stop")
        elif self._tokens >= self._max_tokens:
            self._finish("length")

    def fail(self, error: NacreError) -> None:
        """End with an error instead of a finish."""
        self.done = True
        self._post(error)

    def _finish(self, reason: Any) -> None:
        self._give(self._stops.add(self._opening.rest()) + self._stops.rest())
        self.done = True
        self._post(Finish(reason, self._tokens))

    def _give(self, text: str) -> None:
        if text:
            self._post(Delta(text))

    def _post(self, piece: Delta | Finish | NacreError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except RuntimeError:  # the event loop is closed: nobody listens any more
            self.cancelled = True

    # The event loop's side: `Generation`.

    @property
    def target(self) -> Target:
        return self.resident.target

    async def next(self) -> Delta | Finish:
        piece = await self._pieces.get()
        if isinstance(piece, NacreError):
            raise piece
        return piece

    def cancel(self) -> None:
        if not (self.cancelled or self.done):
            self.cancelled = True
            self._pieces.put_nowait(Finish("aborted", self._tokens))
            self._on_cancel(self)


class EmbeddedEngine:
    """Answers requests one after the other on the best device of this machine.

    Args:
        settings: of which `max_waiting` counts.
    """

    features: frozenset[Feature] = frozenset()

    def __init__(self, settings: Serve) -> None:
        self._max_waiting = settings.max_waiting
        self._residents: dict[Target, _Resident] = {}
        self._preparing = 0  # requests whose messages are being turned into tokens
        self._waiting: deque[_Sequence] = deque()
        self._running = 0
        # A thread of its own: fast tokenizers refuse to be set up by two threads at once, and nothing that
        # waits for a disk can keep requests waiting with it.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="nacre-tokenize")
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nacre-engine", daemon=True)
        self._thread.start()

    @property
    def loaded(self) -> tuple[Target, ...]:
        """The versions that answer now."""
        return tuple(self._residents)

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""
        return len(self._waiting)

    async def load(self, target: Target) -> None:
        """Load a version beside those that answer."""
        if target not in self._residents:
            self._residents[target] = await asyncio.to_thread(_Resident, target)

    async def unload(self, target: Target) -> None:
        """Take no more requests for a version; it is freed with the last it has accepted."""
        self._residents.pop(target, None)

    async def embed(self, target: Target, inputs: Sequence[TextPrompt]) -> Embeddings:
        """Not among its features."""
        raise EngineError("this engine makes no embeddings")

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> _Sequence:
        """Accept a request, see `nacre.serve.engines.Engine`."""
        resident = self._residents.get(target)
        if resident is None:
            raise NotLoaded(f"version {target.label} is not loaded", fix="promote one")
        if not isinstance(prompt, ChatPrompt):
            raise InputError("this engine answers conversations only")
        ids = await self._prompt(resident, prompt.messages, prompt.system)
        room = resident.context_tokens - len(ids)
        wanted = sampling.max_tokens or max(room, 1)
        if wanted > room:
            raise ContextTooLong(
                f"the model's context holds {resident.context_tokens} tokens; the messages take {len(ids)} "
                f"and the answer asks for {wanted}",
                fix="shorten the messages or lower max_completion_tokens",
            )
        sequence = _Sequence(resident, ids, sampling, wanted, self._forget)
        with self._changed:
            self._refuse_overload()
            self._waiting.append(sequence)
            self._changed.notify()
        return sequence

    async def close(self) -> None:
        """Stop the thread; what has not ended fails."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        self._tokenizing.shutdown()

    async def _prompt(self, resident: _Resident, messages: tuple[Message, ...], system: str) -> list[int]:
        self._refuse_overload()
        self._preparing += 1
        try:
            work = partial(prompt_ids, messages, resident.tokenizer, system=system)
            return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)
        finally:
            self._preparing -= 1

    def _refuse_overload(self) -> None:
        if self._closed.is_set():
            raise EngineError("the engine has stopped", fix="restart the server")
        if self._preparing + len(self._waiting) + self._running > self._max_waiting:
            raise Overloaded(f"{self._max_waiting} requests wait already", fix="try again later")

    def _forget(self, sequence: _Sequence) -> None:
        """Give a cancelled request's place in the queue back at once."""
        with self._changed:
            if sequence in self._waiting:
                self._waiting.remove(sequence)

    def _run(self) -> None:
        try:
            while self._answer_next():
                pass
        finally:
            with self._changed:
                self._closed.set()
                for sequence in self._waiting:
                    sequence.fail(EngineError("the engine has stopped", fix="restart the server"))
                self._waiting.clear()

    def _answer_next(self) -> bool:
        """Answer one request; False when the engine is closed.

        A method of its own, so that no variable of a waiting loop keeps a replaced version in memory.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
            if self._closed.is_set():
                return False
            sequence = self._waiting.popleft()
            self._running = 1
        self._answer(sequence)
        with self._changed:
            self._running = 0
        return True

    def _answer(self, sequence: _Sequence) -> None:
        try:
            with torch.inference_mode():
                while not (sequence.done or sequence.cancelled or self._closed.is_set()):
                    sequence.accept(sequence.forward())
        except (RuntimeError, ValueError, IndexError) as error:  # out of memory, broken weights
            _log.exception("an answer of version %s failed", sequence.target.label)
            sequence.fail(EngineError(f"the model failed: {type(error).__name__}", fix="see the server's log"))
        if self._closed.is_set() and not sequence.done:
            sequence.fail(EngineError("the engine has stopped", fix="restart the server"))


def _context_tokens(model: Any, where: str) -> int:
    tokens = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(tokens, int):
        raise NacreError(
            "the model does not say how long its context is",
            where=f"{where}/config.json",
            fix="add max_position_embeddings",
        )
    return tokens

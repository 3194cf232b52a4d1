"""CTranslate2 as the server sees it: accepts requests on the event loop, and hands them to the threads that answer."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar, cast

from nacre.base.errors import InputError, NacreError
from nacre.serve.engines import (
    ChatPrompt,
    ContextTooLong,
    Embeddings,
    Feature,
    NotLoaded,
    Overloaded,
    Prompt,
    Sampling,
    Target,
    TextPrompt,
    stopped,
)
from nacre.serve.engines.ct2.desk import Desk, Request
from nacre.serve.engines.ct2.residents import Resident, Shelf
from nacre.serve.engines.embedded.drawing import Draw
from nacre.serve.engines.embedded.rows import Answer
from nacre.serve.engines.prompting import beyond_context, check_bias, read_prompt
from nacre.serve.settings import Serve

_T = TypeVar("_T")
_PROMPT_LOGITS = 128 * 1024 * 1024  # numbers of four bytes


class CTranslate2Engine:
    """Answers on the CPU with weights in few bits, each request by one of a few threads.

    Adapters are added to the weights when a version is converted, so versions share no base; a version with several
    adapters behind a router is refused when it is loaded. There are no embeddings.

    Args:
        settings: of which `max_waiting` and `ctranslate2` count.
    """

    features: frozenset[Feature] = frozenset({"logprobs", "echo", "json", "penalties", "late_system"})

    def __init__(self, settings: Serve) -> None:
        self._settings = settings.ctranslate2
        self._max_waiting = settings.max_waiting
        self._residents: dict[Target, Resident] = {}
        self._loading = asyncio.Lock()
        self._lock = threading.Lock()  # for what the threads count
        self._preparing = 0
        self._shelf = Shelf(self._settings)
        self._desk = Desk(self._settings.parallel, self._let_go)
        self._compiling = ThreadPoolExecutor(1, thread_name_prefix="nacre-schema")

    @property
    def loaded(self) -> tuple[Target, ...]:
        """The versions that answer now."""
        return tuple(self._residents)

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""
        return self._desk.waiting

    async def load(self, target: Target) -> None:
        """Load a version beside those that answer; what was never loaded is converted first."""
        async with self._loading:
            if target not in self._residents:
                self._residents[target] = await asyncio.to_thread(self._shelf.load, target)

    async def unload(self, target: Target) -> None:
        """Take no more requests for a version; it is freed with the last it has accepted."""
        resident = self._residents.pop(target, None)
        if resident is not None:
            with self._lock:
                resident.rows += 1
                resident.leaving = True
            await asyncio.to_thread(self._let_go, resident)

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> Answer:
        """Accept a request, see `nacre.serve.engines.Engine`."""
        with self._accepted(target) as resident:
            if isinstance(prompt, ChatPrompt) and prompt.tools:
                raise InputError("this engine does not pass tools on", where="tools", fix="ask without them")
            reading = partial(read_prompt, resident.tokenizer, resident.vocabulary, prompt, sampling.echo)
            ids, echo = await self._in(resident.reader, reading)
            wanted = _fitting(resident, len(ids), sampling.max_tokens)
            if echo is not None and sampling.logprobs is not None:
                _check_told(resident, len(ids))
            check_bias(sampling, resident.vocabulary)
            constraint = None
            if sampling.format is not None:
                constraint = await self._in(self._compiling, partial(resident.constraint, sampling.format))
            answer = Answer(
                cast(Any, resident),  # has all that an answer asks of one
                ids,
                sampling,
                Draw(sampling, ids, constraint),
                self._desk.forget,
                max_tokens=wanted,
                echo=echo,
                chat=isinstance(prompt, ChatPrompt),
            )
            answer.resident = None  # the request holds it, and lets it go
            self._desk.add(Request(answer, resident, sampling))
        return answer

    async def embed(self, target: Target, inputs: Sequence[TextPrompt]) -> Embeddings:
        """Not given: `features` has no ``embeddings``."""
        raise InputError("this engine makes no embeddings", where="model", fix="serve with engine: embedded")

    async def close(self) -> None:
        """Stop the threads; what has not ended fails."""
        self._shelf.close()
        await asyncio.to_thread(self._desk.close)
        self._compiling.shutdown()
        for resident in self._residents.values():
            resident.free()
        self._residents.clear()

    def _let_go(self, resident: Resident) -> None:
        """One row less."""
        with self._lock:
            resident.rows -= 1
            last = resident.leaving and resident.rows == 0
        if last:
            resident.free()

    @contextmanager
    def _accepted(self, target: Target) -> Iterator[Resident]:
        """The version, held for one row more: inside the block the row is made and added, or it does not come."""
        if self._desk.closed:
            raise stopped()
        resident = self._residents.get(target)
        if resident is None:
            raise NotLoaded(f"version {target.label} is not loaded", fix="promote one")
        if self._preparing + self._desk.waiting + self._desk.running >= self._max_waiting + self._settings.parallel:
            raise Overloaded(f"{self._max_waiting} requests wait already", fix="try again later")
        self._preparing += 1
        with self._lock:
            resident.rows += 1
        with ExitStack() as undo:
            undo.callback(self._let_go, resident)
            try:
                yield resident
            finally:
                self._preparing -= 1
            undo.pop_all()

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except RuntimeError as error:
            if self._desk.closed:
                raise stopped() from None
            raise NacreError(f"the request could not be prepared: {error}") from error


def _check_told(resident: Resident, prompt: int) -> None:
    """The logits of a whole prompt are in memory at once, as CTranslate2 gives them.

    Raises:
        ContextTooLong: they are too many.
    """
    most = _PROMPT_LOGITS // resident.vocabulary
    if prompt > most:
        raise ContextTooLong(
            f"log probabilities of a prompt are told up to {most} tokens here; this one takes {prompt}",
            fix="shorten the prompt, or serve with engine: embedded",
        )


def _fitting(resident: Resident, prompt: int, wanted: int | None) -> int:
    """How many tokens the answer may have.

    Raises:
        ContextTooLong: prompt and answer do not fit the context.
    """
    most = resident.context_tokens
    asked = max(most - prompt, 1) if wanted is None else wanted
    if prompt + asked <= most:
        return asked
    raise beyond_context(most, prompt, asked)

"""The engine as the server sees it: accepts requests on the event loop, and hands them to the thread that computes."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from nacre.base.errors import InputError, NacreError
from nacre.serve.engines import (
    ChatPrompt,
    ContextTooLong,
    Embeddings,
    Feature,
    Generation,
    NotLoaded,
    Overloaded,
    Prompt,
    Sampling,
    Target,
    TextPrompt,
    stopped,
)
from nacre.serve.engines.embedded.drawing import Draw
from nacre.serve.engines.embedded.residents import Resident, Shelf
from nacre.serve.engines.embedded.rows import Answer, Embedding
from nacre.serve.engines.embedded.scheduler import Scheduler
from nacre.serve.engines.embedded.voting import Vote, check_votable
from nacre.serve.engines.prompting import beyond_context, check_bias, read_prompt
from nacre.serve.settings import Serve

_T = TypeVar("_T")


class EmbeddedEngine:
    """Answers many requests side by side on the best device of this machine.

    Args:
        settings: of which `max_waiting` and `embedded` count.
    """

    features: frozenset[Feature] = frozenset({"logprobs", "echo", "json", "penalties", "embeddings", "late_system"})

    def __init__(self, settings: Serve) -> None:
        self._settings = settings.embedded
        self._room = settings.max_waiting + settings.embedded.max_running
        self._residents: dict[Target, Resident] = {}
        self._loading = asyncio.Lock()
        self._preparing = 0  # requests whose messages are being turned into tokens
        self._scheduler = Scheduler(settings.embedded, lambda resident: self._shelf.free(resident))
        self._shelf = Shelf(settings.embedded, self._scheduler.between)
        # Threads of their own: fast tokenizers refuse to be set up by two threads at once, and nothing that
        # waits for a disk or a large schema can keep requests waiting with it.
        self._compiling = ThreadPoolExecutor(1, thread_name_prefix="nacre-schema")
        self._scheduler.start()

    @property
    def loaded(self) -> tuple[Target, ...]:
        """The versions that answer now."""
        return tuple(self._residents)

    @property
    def waiting(self) -> int:
        """Requests accepted and not begun."""
        return self._scheduler.waiting

    async def load(self, target: Target) -> None:
        """Load a version beside those that answer."""
        async with self._loading:
            if target not in self._residents:
                self._residents[target] = await asyncio.to_thread(self._shelf.load, target)

    async def unload(self, target: Target) -> None:
        """Take no more requests for a version; it is freed with the last it has accepted."""
        resident = self._residents.pop(target, None)
        if resident is not None:
            self._scheduler.hold(resident)
            resident.leaving = True
            await asyncio.wrap_future(self._scheduler.release(resident))

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> Generation:
        """Accept a request, see `nacre.serve.engines.Engine`; of a vote it takes a place for each member."""
        resident = self._residents.get(target)
        if resident is None or not resident.voters:
            return await self._answer(target, prompt, sampling)
        check_votable(sampling)
        answers: list[Answer] = []
        try:
            for name in resident.voters:
                answers.append(await self._answer(target, prompt, sampling, by=name))
        except (NacreError, asyncio.CancelledError):
            for answer in answers:
                answer.cancel()
            raise
        return Vote(answers)

    async def _answer(self, target: Target, prompt: Prompt, sampling: Sampling, by: str | None = None) -> Answer:
        """Accept a request that the adapter `by` answers; None: whichever is the version's."""
        with self._accepted(self._resident(target)) as resident:
            if isinstance(prompt, ChatPrompt) and prompt.tools:
                raise InputError("this engine does not pass tools on", where="tools", fix="ask without them")
            reading = partial(read_prompt, resident.tokenizer, resident.base.vocabulary, prompt, sampling.echo)
            ids, echo = await self._in(resident.reader, reading)
            wanted = self._fitting(resident, len(ids), sampling.max_tokens)
            check_bias(sampling, resident.base.vocabulary)
            constraint = None
            if sampling.format is not None:
                constraint = await self._in(self._compiling, partial(resident.constraint, sampling.format))
            answer = Answer(
                resident,
                ids,
                sampling,
                Draw(sampling, ids, constraint),
                self._scheduler.forget,
                max_tokens=wanted,
                echo=echo,
                chat=isinstance(prompt, ChatPrompt),
            )
            if by is not None:
                answer.adapter = by
            if resident.mixed:
                answer.tenant = None  # beginnings are kept of what one adapter has read
            self._scheduler.add(answer)
        return answer

    async def embed(self, target: Target, inputs: Sequence[TextPrompt]) -> Embeddings:
        """One vector an input: the mean of its last hidden states. See `nacre.serve.engines.Engine`.

        However many inputs there are, they take no more places at a time than rows can run side by side.
        """
        rows: list[Embedding] = []
        resident = self._resident(target)
        self._scheduler.hold(resident)  # the version may leave before the last input has a row of its own
        try:
            begun: set[asyncio.Future[tuple[float, ...]]] = set()
            for text in inputs:
                while begun and (len(begun) >= self._settings.max_running or self._full):
                    _, begun = await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
                rows.append(await self._embedding(resident, target, text))
                begun.add(rows[-1].vector)
            vectors = await asyncio.gather(*(row.vector for row in rows))
        finally:
            self._scheduler.release(resident)
            for row in rows:
                if not row.vector.done():
                    row.cancelled = True
                    self._scheduler.forget(row)
                    row.vector.cancel()
        return Embeddings(tuple(vectors), sum(row.prompt_tokens for row in rows))

    async def close(self) -> None:
        """Stop the thread; what has not ended fails."""
        await asyncio.to_thread(self._scheduler.close)
        self._shelf.close()
        for resident in self._residents.values():
            resident.reader.shutdown()
        self._compiling.shutdown()
        self._residents.clear()

    async def _embedding(self, resident: Resident, target: Target, text: TextPrompt) -> Embedding:
        with self._accepted(resident):
            if not resident.base.embeds or resident.router is not None or resident.mixed or resident.voters:
                raise InputError(f"version {target.label} makes no embeddings", where="model", fix="ask another one")
            reading = partial(read_prompt, resident.tokenizer, resident.base.vocabulary, text, False)
            ids, _ = await self._in(resident.reader, reading)
            self._fitting(resident, len(ids), 0)
            row = Embedding(resident, ids)
            self._scheduler.add(row)
        return row

    def _resident(self, target: Target) -> Resident:
        """The version in memory."""
        if self._scheduler.closed:
            raise stopped()
        resident = self._residents.get(target)
        if resident is None:
            raise NotLoaded(f"version {target.label} is not loaded", fix="promote one")
        return resident

    @property
    def _full(self) -> bool:
        """Whether every place is taken."""
        return self._preparing + self._scheduler.waiting + self._scheduler.running >= self._room

    @contextmanager
    def _accepted(self, resident: Resident) -> Iterator[Resident]:
        """The version, held for one row more: inside the block the row is made and added, or it does not come."""
        if self._scheduler.closed:
            raise stopped()
        if self._full:
            raise Overloaded(f"{self._room - self._settings.max_running} requests wait already", fix="try again later")
        self._preparing += 1
        self._scheduler.hold(resident)
        with ExitStack() as undo:
            undo.callback(self._scheduler.release, resident)
            try:
                yield resident
            finally:
                self._preparing -= 1
            undo.pop_all()

    def _fitting(self, resident: Resident, prompt: int, wanted: int | None) -> int:
        """How many tokens the answer may have.

        Raises:
            ContextTooLong: prompt and answer do not fit the context, or could never fit the memory.
        """
        most = resident.base.context_tokens
        held = min(most, resident.longest(self._settings.kv_tokens))
        asked = max(held - prompt, 1) if wanted is None else wanted
        if prompt + asked <= held:
            return asked
        if prompt + asked <= most:
            raise ContextTooLong(
                f"this server holds {held} tokens of one request at a time; prompt and answer take {prompt + asked}",
                fix="shorten them, or raise serve.embedded.kv_tokens",
            )
        raise beyond_context(most, prompt, asked)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except RuntimeError as error:
            if self._scheduler.closed:
                raise stopped() from None
            raise NacreError(f"the request could not be prepared: {error}") from error

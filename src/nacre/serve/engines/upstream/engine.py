"""The engine that asks other servers."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from nacre.base.errors import InputError, NacreError
from nacre.serve.engines import (
    Embeddings,
    EngineError,
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
from nacre.serve.engines.upstream.answers import counted
from nacre.serve.engines.upstream.errors import Failed
from nacre.serve.engines.upstream.generation import UpstreamGeneration
from nacre.serve.engines.upstream.models import Models
from nacre.serve.engines.upstream.pool import Pool
from nacre.serve.engines.upstream.replica import Replica, parsed, read_all
from nacre.serve.engines.upstream.requests import FEATURES, Asked, asked, estimated
from nacre.serve.settings import Serve

_log = logging.getLogger("nacre.serve")

_ACCEPTED_S = 0.5  # that a stream's acceptance is waited for; later refusals come as the answer's first piece


@dataclass(eq=False)
class _Resident:
    """A version that may be asked for.

    Attributes:
        running: its answers under way.
    """

    target: Target
    running: int = 0


class UpstreamEngine:
    """Passes requests on to the servers of `serve.upstream`.

    Args:
        settings: of which `upstream` and `max_waiting` count.

    Raises:
        InputError: no servers, an address that is none, or a key's variable that is not set.
    """

    def __init__(self, settings: Serve) -> None:
        self._settings, self._max_waiting = settings.upstream, settings.max_waiting
        if not self._settings.urls:
            raise InputError("there is no upstream", where="serve.upstream.urls", fix="name at least one server")
        for url in self._settings.urls:
            parsed(url)
        self._key = _key(self._settings.api_key_env)
        self.features: frozenset[Feature] = (
            FEATURES[self._settings.kind] if self._settings.features is None else frozenset(self._settings.features)
        )
        self._residents: dict[Target, _Resident] = {}
        self._running: dict[UpstreamGeneration, _Resident] = {}
        self._begun = False
        self._closed = False
        self._changing = asyncio.Lock()  # one load or removal of an adapter at a time
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def loaded(self) -> tuple[Target, ...]:
        """The versions that answer now."""
        return tuple(self._residents)

    @property
    def waiting(self) -> int:
        """Streamed requests that were accepted and whose first piece has not come."""
        return sum(not generation.begun for generation in self._running)

    async def load(self, target: Target) -> None:
        """Find a version on the servers, or bring it there, see `nacre.serve.engines.upstream.models`."""
        self._start()
        async with self._changing:
            await self._models.load(target)
            if target in self._residents:
                return
            self._check_distinct(target)
            self._residents[target] = _Resident(target)

    async def unload(self, target: Target) -> None:
        """Take no more requests for a version; its adapter leaves the servers with its last answer."""
        resident = self._residents.pop(target, None)
        if resident is not None and not resident.running:
            await self._remove(target)

    async def generate(self, target: Target, prompt: Prompt, sampling: Sampling) -> Generation:
        """Accept a request, see `nacre.serve.engines.Engine`.

        What a server refuses within half a second is raised here; later refusals, and those of answers that are not
        streamed, by the first `next`.
        """
        resident = self._resident(target)
        if len(self._running) >= self._max_waiting and self.waiting >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} requests wait already", fix="try again later")
        request = asked(self._settings.kind, prompt, sampling)
        generation = UpstreamGeneration(target, request, self._pool, self._settings, self._ended)
        self._running[generation] = resident
        resident.running += 1
        if sampling.stream:
            try:
                await generation.accepted(_ACCEPTED_S)
            except asyncio.CancelledError:
                generation.cancel()
                raise
        return generation

    async def embed(self, target: Target, inputs: Sequence[TextPrompt]) -> Embeddings:
        """One vector for each input, brought to length 1."""
        resident = self._resident(target)
        resident.running += 1
        try:
            async with asyncio.timeout(self._settings.answer_s):
                return await self._embed(target, [prompt.text for prompt in inputs])
        except Failed as failure:
            raise failure.error from None
        except TimeoutError:
            raise EngineError("the upstream is too slow: the embeddings were given up") from None
        finally:
            self._left(resident)

    async def close(self) -> None:
        """Stop. Adapters stay where they are: after a restart, and for other gateways, they are still right."""
        self._closed = True
        for generation in tuple(self._running):
            generation.stop(stopped())
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        if self._begun:
            await asyncio.gather(*(replica.close() for replica in self._pool.replicas))

    def _start(self) -> None:
        """Open the connections and look after the servers: here, because this needs the running event loop."""
        if self._closed:
            raise stopped()
        if self._begun:
            return
        self._begun = True
        replicas = [Replica(url, self._settings, self._key) for url in self._settings.urls]
        self._models = Models(self._settings, replicas)
        self._pool = Pool(self._settings, replicas, self._models)
        for replica in replicas:
            self._spawn(self._look_after(replica))
        self._spawn(self._watch_clock())

    def _resident(self, target: Target) -> _Resident:
        if self._closed:
            raise stopped()
        resident = self._residents.get(target)
        if resident is None:
            raise NotLoaded(f"version {target.label} is not loaded", fix="promote one")
        return resident

    async def _embed(self, target: Target, texts: Sequence[str | tuple[int, ...]]) -> Embeddings:
        request = Asked("embeddings", {"input": texts, "encoding_format": "float"}, chat=False, stream=False)
        opened = await self._pool.open(target, request)
        try:
            body = await read_all(opened.answer, self._settings.max_answer_bytes)
            found = _embeddings(body, len(texts))
            opened.end(broken=False)
            return found if found.tokens else replace(found, tokens=estimated(request))
        except (Failed, EngineError):
            opened.end(broken=True)
            raise
        finally:
            opened.end(broken=None)
            opened.answer.close()

    def _ended(self, generation: UpstreamGeneration) -> None:
        resident = self._running.pop(generation, None)
        if resident is not None:
            self._left(resident)

    def _left(self, resident: _Resident) -> None:
        resident.running -= 1
        gone = self._residents.get(resident.target) is not resident
        if gone and not resident.running and not self._closed:
            self._spawn(self._remove(resident.target))

    async def _remove(self, target: Target) -> None:
        if not self._models.is_adapter(target):
            return
        async with self._changing:
            if target not in self._residents:  # it may have been loaded again meanwhile
                await self._models.remove(target)

    def _check_distinct(self, target: Target) -> None:
        """Refuse a version that would be answered by another version's weights.

        Raises:
            NacreError: a server has both under one name.
        """
        for other in self._residents:
            if other.weights == target.weights:
                continue
            for replica in self._pool.replicas:
                name = self._models.name_on(replica, target)
                if name is not None and name == self._models.name_on(replica, other):
                    raise NacreError(
                        f"'{name}' on {replica.name} answers for version {other.label} already, "
                        f"so it cannot be version {target.label} as well",
                        where="serve.upstream.models",
                        fix="start a server with the new version and name both, or stop the old one",
                    )

    async def _look_after(self, replica: Replica) -> None:
        """Ask a server how it is, again and again; one that lost adapters by a restart gets them again."""
        while True:
            await asyncio.sleep(self._settings.health_s)
            await replica.look()
            if not replica.alive or replica.cards is None:
                continue
            for target in self.loaded:
                if self._models.is_adapter(target) and self._models.name_on(replica, target) is None:
                    problem = await self._models.mend(replica, target)
                    if problem is not None:
                        _log.error("version %s is not on %s: %s", target.label, replica.name, problem.what)

    async def _watch_clock(self) -> None:
        """End the answers whose server has been silent for too long: one clock for all costs none of them anything."""
        settings = self._settings
        tick_s = min(0.5, settings.first_s / 4, settings.stall_s / 4, settings.answer_s / 4)
        while True:
            await asyncio.sleep(tick_s)
            now_s = time.monotonic()
            for generation in [each for each in self._running if each.due_s < now_s]:
                generation.stop(generation.too_late())
            self._pool.sweep()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("looking after the upstreams failed", exc_info=task.exception())


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(
            f"the environment variable {variable} holds no key",
            where="serve.upstream.api_key_env",
            fix=f"set {variable}, or leave api_key_env out",
        )
    return key


def _embeddings(body: bytes, wanted: int) -> Embeddings:
    try:
        found = orjson.loads(body)
        rows = sorted(found["data"], key=lambda row: row["index"])
        vectors = [[float(value) for value in row["embedding"]] for row in rows]
        tokens = counted((found.get("usage") or {}).get("prompt_tokens"))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        raise EngineError("the upstream's embeddings have another shape than OpenAI's API has") from None
    lengths = [math.sqrt(sum(value * value for value in vector)) for vector in vectors]
    if len(vectors) != wanted or any(not 0 < length < math.inf for length in lengths):
        raise EngineError("the upstream's embeddings are not one finite vector for each input")
    return Embeddings(
        tuple(tuple(value / length for value in vector) for vector, length in zip(vectors, lengths, strict=True)),
        tokens,
    )

"""The version in the shadow answers what users asked the champion: behind their back, and never in their way."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from nacre.base.errors import NacreError
from nacre.serve.engines import Delta, Engine, Overloaded, Target
from nacre.serve.gateway.callers import Caller
from nacre.serve.gateway.metrics import Metrics
from nacre.serve.interactions import Writer
from nacre.serve.outcome import Outcome
from nacre.serve.routing import CHAMPION, SHADOW, Live, Route
from nacre.serve.settings import ShadowSettings

_log = logging.getLogger("nacre.serve")

_LOOK_S = 0.02
_SHARES = 10_000


class Shadow:
    """A bounded queue and the few tasks that empty it.

    `offer` only puts a request into the queue: when it is full the newest is dropped and counted. A task takes one,
    waits for a moment in which no user is being answered, at most `patience_s`, and asks the shadow with the same
    sampling. Its answer is kept beside the champion's, whose id it names; an error or an answer that takes longer
    than `deadline_s` is kept with the finish `error`. What waited until the rollout had left the shadow is dropped.

    Args:
        engine: which has the shadow's version loaded.
        live: what is served now.
        writer: takes the answers.
        new_id: makes response ids.
        busy: how many requests of users run.
        metrics: are told what was dropped.
        settings: share, places, time.
    """

    def __init__(
        self,
        engine: Engine,
        live: Callable[[], Live],
        writer: Writer,
        new_id: Callable[[], str],
        busy: Callable[[], int],
        metrics: Metrics,
        settings: ShadowSettings,
    ) -> None:
        self._engine, self._live, self._writer, self._new_id = engine, live, writer, new_id
        self._busy, self._metrics, self._settings = busy, metrics, settings
        self._queue: asyncio.Queue[tuple[Target, Outcome]] = asyncio.Queue(settings.queue)
        self._tasks: list[asyncio.Task[None]] = []
        self._told = False

    @property
    def waiting(self) -> int:
        """Requests that wait for the shadow."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to answer."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._settings.concurrency)]

    async def close(self) -> None:
        """Stop; what waits is forgotten."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def offer(self, asked: Outcome) -> None:
        """Have the shadow answer it too, if it counts: text, answered by the champion, allowed to be kept."""
        target = self._live().shadow
        if target is None or not self._counts(asked):
            return
        try:
            self._queue.put_nowait((target, asked))
        except asyncio.QueueFull:
            self._drop("full")

    def _counts(self, asked: Outcome) -> bool:
        if asked.route.arm != CHAMPION or asked.finish == "aborted" or not (asked.keep and asked.plain):
            return False
        place = int.from_bytes(hashlib.sha256(asked.id.encode()).digest()[:8], "big") % _SHARES
        return place < round(self._settings.share * _SHARES)

    async def _work(self) -> None:
        while True:
            target, asked = await self._queue.get()
            await self._wait_for_quiet()
            if self._live().shadow != target:
                self._drop("stale")
                continue
            await self._answer(target, asked)

    async def _wait_for_quiet(self) -> None:
        until = time.monotonic() + self._settings.patience_s
        while self._busy() and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)

    async def _answer(self, target: Target, asked: Outcome) -> None:
        started_s = time.monotonic()
        text, finish, tokens, prompt_tokens = "", "error", 0, asked.prompt_tokens
        first_token_s: float | None = None
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                generation = await self._engine.generate(target, asked.prompt, asked.sampling)
                try:
                    while isinstance(piece := await generation.next(), Delta):
                        if first_token_s is None and not piece.whole:
                            first_token_s = time.monotonic() - started_s
                        text += piece.text
                finally:
                    generation.cancel()
            finish, tokens, prompt_tokens = piece.reason, piece.tokens, generation.prompt_tokens
        except Overloaded:
            self._drop("overloaded")
            return
        except TimeoutError:
            _log.warning("the shadow, version %s, took longer than %.0f s", target.label, self._settings.deadline_s)
        except (NacreError, RuntimeError, ValueError, OSError) as error:
            _log.warning("the shadow, version %s, failed: %s", target.label, type(error).__name__)
        answered = replace(
            asked,
            id=self._new_id(),
            route=Route(target, SHADOW),
            caller=Caller(""),
            answer=text,
            finish=finish,
            prompt_tokens=prompt_tokens,
            answer_tokens=tokens,
            latency_s=time.monotonic() - started_s,
            first_token_s=first_token_s,
        )
        answered.count(self._metrics)
        self._writer.add(answered.interaction.changed(twin=asked.id))

    def _drop(self, why: str) -> None:
        self._metrics.shadow_dropped.labels(why).inc()
        if why == "full" and not self._told:
            self._told = True
            _log.warning("the shadow is slower than the users: requests are dropped; /metrics counts them")

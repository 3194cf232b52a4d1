"""Which server a request goes to, and what happens when that one fails."""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

import orjson

from nacre.serve.engines import EngineError, Target
from nacre.serve.engines.upstream.breaker import Budget
from nacre.serve.engines.upstream.errors import Failed
from nacre.serve.engines.upstream.exchange import Exchange, OnSent, nobody_asks
from nacre.serve.engines.upstream.models import Models
from nacre.serve.engines.upstream.replica import Replica
from nacre.serve.engines.upstream.requests import Asked
from nacre.serve.engines.upstream.settings import Upstream

_log = logging.getLogger("nacre.serve")

_PAUSE_S = 0.05  # before a second try where there is no second server; doubled each time
_END_S = 2.0  # that the last bytes of an answer may take after its last event


class Pool:
    """The servers. The one with the fewest requests answers next; among equals they take turns."""

    def __init__(self, settings: Upstream, replicas: Sequence[Replica], models: Models) -> None:
        self.replicas = list(replicas)
        self._settings, self._models = settings, models
        self._budget = Budget(settings.retry_share)
        self._turn = 0
        self._ending: dict[Exchange, float] = {}

    async def open(self, target: Target, asked: Asked, on_sent: OnSent = nobody_asks) -> "Opened":
        """Send a request, to another server where one fails before its answer has begun.

        Args:
            on_sent: told True when a server has the request, and False when that one failed.

        Raises:
            NacreError: none answered; the last one's reason.
        """
        self._budget.earn()
        tried: set[Replica] = set()
        tries = mends = 0
        while True:
            replica, name = self._pick(target, tried)
            try:
                return await self._send(replica, name, asked, on_sent)
            except Failed as failure:
                if failure.unknown_model and self._models.is_adapter(target) and not mends:
                    mends += 1
                    await self._mend(replica, target)
                    continue
                if not failure.again or tries >= self._settings.retries or not self._budget.spend():
                    raise failure.error from None
                tried.add(replica)
                tries += 1
                _log.info("trying again after %s: %s", replica.name, failure.error.what)
            if len(tried) >= len(self.replicas):
                await asyncio.sleep(_PAUSE_S * 2**tries)

    def spend(self) -> bool:
        """Take one retry out of the budget; False when it is empty."""
        return self._budget.spend()

    def keep(self, answer: Exchange) -> None:
        """Let an answer whose last event is read reach its end, so that its connection can be used again."""
        content = answer.content
        if content.is_eof():
            return
        self._ending[answer] = time.monotonic()
        content.on_eof(partial(self._reached_end, answer))

    def sweep(self) -> None:
        """Close the connections of answers that said they were over and did not end."""
        late_s = time.monotonic() - _END_S
        for answer in [answer for answer, when_s in self._ending.items() if when_s < late_s]:
            self._ending.pop(answer, None)
            answer.close()

    def _reached_end(self, answer: Exchange) -> None:
        self._ending.pop(answer, None)

    async def _send(self, replica: Replica, name: str, asked: Asked, on_sent: OnSent) -> "Opened":
        body = orjson.dumps({**asked.body, "model": name})
        opened = Opened(replica)
        try:
            opened.answer = await replica.send(asked.path, body, on_sent)
        except Failed as failure:
            on_sent(False)
            opened.end(broken=failure.broken)
            raise
        except asyncio.CancelledError:
            opened.end(broken=None)
            raise
        return opened

    def _pick(self, target: Target, tried: set[Replica]) -> tuple[Replica, str]:
        """The least busy server that has the version; not one that failed this request while there is another.

        Where none is known to be alive any is tried: what was asked of them may be out of date.
        """
        replicas, self._turn = self.replicas, self._turn + 1
        best: tuple[tuple[bool, bool, int, int], Replica, str] | None = None
        for place, replica in enumerate(replicas):
            name = self._models.name_on(replica, target)
            if name is None or not replica.breaker.admits():
                continue
            rank = (replica in tried, not replica.alive, replica.in_flight, (place - self._turn) % len(replicas))
            if best is None or rank < best[0]:
                best = rank, replica, name
        if best is None:
            raise EngineError(f"no upstream answers for version {target.label} now", fix="try again later")
        return best[1], best[2]

    async def _mend(self, replica: Replica, target: Target) -> None:
        """A server that does not know an adapter has been started again: it gets the adapter again."""
        _log.warning("version %s is gone from %s: loading it again", target.label, replica.name)
        replica.cards = {}
        problem = await self._models.mend(replica, target)
        if problem is not None:
            _log.error("version %s cannot be loaded again: %s", target.label, problem.what)


class Opened:
    """A request that a server is answering; `end` exactly once, or once more without effect."""

    __slots__ = ("_ended", "answer", "replica")

    answer: Exchange

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._ended = False
        replica.in_flight += 1
        replica.breaker.sent()

    def end(self, *, broken: bool | None) -> None:
        """Whether the server failed; None where that could not be known."""
        if self._ended:
            return
        self._ended = True
        self.replica.in_flight -= 1
        if broken is None:
            self.replica.breaker.gave_up()
        elif broken:
            self.replica.breaker.failed()
        else:
            self.replica.breaker.succeeded()

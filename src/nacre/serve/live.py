"""Follows the ledger: what stands in its slots is what answers, without a restart."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nacre.base.errors import NacreError
from nacre.records import Version, Weights
from nacre.records.release import Rollout
from nacre.registry.leases import Lease
from nacre.registry.ledger import Ledger
from nacre.serve.engines import Engine, Target
from nacre.serve.routing import CHALLENGER, CHAMPION, SHADOW, Live

_log = logging.getLogger("nacre.serve")

POLL_S = 0.2
SERVED = (CHAMPION, CHALLENGER, SHADOW, "previous-1")
LINGER_S = 1.0  # that a version which no slot holds any more still answers to its number
_RETRY_S = 5.0  # after a version could not be loaded
_NO_CHAMPION = "no version is champion: promote one (nacre promote)"
_MISTAKES = (NacreError, OSError, RuntimeError, ValueError)  # RuntimeError: out of memory; ValueError: broken weights


class Watcher:
    """Asks the ledger for its generation; when it has risen, routes to what its slots hold.

    Loading is slow and routing is not, so they are apart: each version is loaded by a task of its own, beside
    those that answer, and the routes change as soon as the ledger does, to what is loaded by then. No load of one
    version keeps another from being promoted, rolled back or taken out of the canary. `previous-1` stays loaded, so
    that a rollback is a change of the routes alone. What no slot holds any more answers to its number for `LINGER_S`
    longer, because a server in front of this one may not have seen the change yet, and is unloaded after its last
    answer. Where it is wanted again the engine is asked to load it again: for most that is nothing, one that asks
    other servers looks whether they still have it.

    Args:
        resolve: where the weights of a version lie.
        lease: says which versions this server holds, so that no garbage collection takes them.
        slots: whose versions are loaded.

    Attributes:
        live: what is served now.
        generation: the ledger's generation that was last acted upon.
        refused: why versions cannot be served, by number.
    """

    def __init__(
        self,
        ledger: Ledger,
        resolve: Callable[[Version], Weights],
        engine: Engine,
        lease: Lease | None = None,
        slots: Sequence[str] = SERVED,
    ) -> None:
        self._ledger, self._resolve, self._engine, self._lease, self._slots = ledger, resolve, engine, lease, slots
        self._wanted: dict[str, int] = {}  # the ledger's slots that are served
        self._rollout: Rollout | None = None
        self._targets: dict[int, Target] = {}  # versions that are loaded
        self._leaving: dict[int, Target] = {}  # versions that are out of the slots and still loaded
        self._until: dict[int, float] = {}  # and how long they stay
        self._work: dict[int, asyncio.Task[None]] = {}  # loading or unloading: one task a version at a time
        self._again: dict[int, float] = {}  # versions that could not be loaded, and when they are tried again
        self._unread = ""
        # Threads of its own: what waits for the ledger elsewhere must not keep a promotion waiting.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nacre-watch")
        self.live = Live()
        self.generation = -1
        self.refused: dict[int, str] = {}
        self._starting = True  # until `run`: the champion is loaded before the others, which would keep it waiting
        self._start_error: NacreError | None = None

    @property
    def problem(self) -> str:
        """Why the newest champion is not the one that answers; empty when it is."""
        if self._unread:
            return self._unread
        champion = self._wanted.get(CHAMPION)
        if champion is None:
            return _NO_CHAMPION if self.generation >= 0 else ""
        answering = self.live.champion
        if answering is not None and answering.version == champion:
            return ""
        return self.refused.get(champion, "" if answering else f"version {champion} is being loaded")

    @property
    def troubles(self) -> dict[str, str]:
        """Why versions of slots do not answer, by slot: users get the champion in their place."""
        return {slot: self.refused[number] for slot, number in self._wanted.items() if number in self.refused}

    async def start(self) -> None:
        """Look for the first time, and wait for the champion; `run` loads the others.

        Raises:
            NacreError: the ledger does not answer or the champion cannot be loaded.
        """
        await self.refresh()
        champion = self._wanted.get(CHAMPION)
        if champion in self._work:
            await asyncio.wait([self._work[champion]])
        if self._start_error is not None:
            raise self._start_error
        if champion is not None and champion in self.refused:
            raise NacreError(self.refused[champion], where=f"version {champion}", fix="see nacre verify")

    async def run(self) -> None:
        """Look for ever. A champion that cannot be loaded leaves the old one answering and is tried again."""
        self._starting = False
        self._settle()
        while True:
            try:
                await self.refresh()
                self._unread = ""
            except NacreError as error:
                if not self._unread:
                    _log.error("the ledger cannot be followed: %s", error.what)
                self._unread = error.what
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Look once, and route to what is loaded of the slots if they have changed.

        Raises:
            NacreError: the ledger does not answer.
        """
        if self._lease is not None:
            self._lease.beat()  # touches a file: needs no room on the disk
        loop = asyncio.get_running_loop()
        generation = await loop.run_in_executor(self._thread, self._ledger.generation)
        if generation != self.generation:
            self._wanted, self._rollout = await loop.run_in_executor(self._thread, self._read)
            self.generation = generation
            self._again.clear()
            self._settle()
        elif any(when <= time.monotonic() for when in (*self._again.values(), *self._until.values())):
            self._settle()

    async def close(self) -> None:
        """Give up what is being loaded; its engine is closed next."""
        work = list(self._work.values())
        for task in work:
            task.cancel()
        if work:
            await asyncio.wait(work)
        self._thread.shutdown(wait=False)

    def _read(self) -> tuple[dict[str, int], Rollout | None]:
        """The versions of the slots that are served, champion first, and the release under way."""
        found = self._ledger.slots()
        slots = {name: found[name].version for name in self._slots if name in found}
        return slots, self._ledger.releases.active()

    def _settle(self) -> None:
        """Route to what is loaded, begin to load what is missing, and to unload what nobody wants."""
        ready = dict(self._targets)
        slots = {slot: ready[number] for slot, number in self._wanted.items() if number in ready}
        old = self.live.champion
        if CHAMPION not in slots and CHAMPION in self._wanted and old is not None and old.version in ready:
            slots = {CHAMPION: old} | slots  # it goes on answering until the new one is loaded
        wanted = {*self._wanted.values(), *(target.version for target in slots.values())}
        now_s = time.monotonic()
        for number in ready.keys() - wanted:
            self._leaving[number] = self._targets.pop(number)
            self._until[number] = now_s + LINGER_S
        gone = {number for number in self._leaving.keys() - wanted - self._work.keys() if self._until[number] <= now_s}
        for number in gone:
            del self._until[number]
            self._begin(number, self._unload(number, self._leaving.pop(number)))
        self.live = Live(slots, self._rollout, tuple(self._leaving.values()))
        self._hold(wanted | self._targets.keys() | self._leaving.keys() | gone)
        first = {self._wanted.get(CHAMPION)} if self._starting else wanted
        for number in (wanted & first) - self._targets.keys() - self._work.keys():
            if self._again.get(number, 0.0) <= now_s:
                self._begin(number, self._load(number))

    def _begin(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        self._again.pop(number, None)
        task = self._work[number] = asyncio.create_task(work)
        task.add_done_callback(lambda ended: self._on_end(number, ended))

    def _on_end(self, number: int, task: asyncio.Task[None]) -> None:
        """What nobody expected is told like the rest, and tried again as seldom."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.refused[number] = _told(error)
            self._again[number] = time.monotonic() + _RETRY_S
            _log.critical("loading or unloading version %d failed", number, exc_info=error)

    async def _load(self, number: int) -> None:
        started_s = time.monotonic()
        try:
            version = await asyncio.to_thread(self._ledger.version, number)
            target = Target(number, await asyncio.to_thread(self._resolve, version))
            await self._engine.load(target)
        except _MISTAKES as error:
            self._again[number] = time.monotonic() + _RETRY_S
            if self._starting and isinstance(error, NacreError):
                self._start_error = error  # told by `start`
            elif self.refused.get(number) != _told(error):
                _log.error("version %d cannot be served: %s", number, _told(error))
            self.refused[number] = _told(error)
        else:
            self.refused.pop(number, None)
            self._targets[number] = target
            self._leaving.pop(number, None)
            self._until.pop(number, None)
            _log.info("version %d is loaded after %.1f s", number, time.monotonic() - started_s)
        finally:
            del self._work[number]
        self._settle()

    async def _unload(self, number: int, target: Target) -> None:
        try:
            await self._engine.unload(target)
        except _MISTAKES as error:
            _log.error("version %d cannot be unloaded: %s", number, _told(error))
        finally:
            del self._work[number]
        self._settle()

    def _hold(self, versions: set[int]) -> None:
        """Say what is served or loaded; that nobody can be told must not keep the champion from answering."""
        if self._lease is None:
            return
        try:
            self._lease.hold({one for one in versions if one})
        except NacreError as error:
            _log.warning("nacre gc does not know what this server holds: %s", error)


def slot_versions(live: Live) -> Mapping[str, int]:
    """The version of each slot that answers now."""
    return {slot: target.version for slot, target in live.slots.items()}


def _told(error: BaseException) -> str:
    return error.what if isinstance(error, NacreError) else f"{type(error).__name__}: {error}"

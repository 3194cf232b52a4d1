"""Follows the ledger: what stands in its slots is what answers, without a restart."""

import asyncio
import logging
import time
from collections.abc import Callable

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
_RETRY_S = 5.0  # after a champion could not be loaded


class Watcher:
    """Asks the ledger for its generation; when it has risen, loads what its slots hold and publishes it at once.

    A version is loaded beside those that answer, then routed to, and what no slot holds any more is unloaded after
    its last answer. `previous-1` stays loaded, so that a rollback is a change of the routes alone.

    Args:
        resolve: where the weights of a version lie.
        lease: says which versions this server holds, so that no garbage collection takes them.

    Attributes:
        live: what is served now.
        problem: why the newest champion is not the one that answers; empty when it is.
        generation: the ledger's generation that was last acted upon.
    """

    def __init__(
        self, ledger: Ledger, resolve: Callable[[Version], Weights], engine: Engine, lease: Lease | None = None
    ) -> None:
        self._ledger, self._resolve, self._engine, self._lease = ledger, resolve, engine, lease
        self._refused: dict[int, float] = {}  # versions that could not be loaded, and when they are tried again
        self.live = Live()
        self.problem = ""
        self.generation = -1

    async def run(self) -> None:
        """Look for ever. A champion that cannot be loaded leaves the old one answering and is tried again."""
        while True:
            pause_s = POLL_S
            try:
                await self.refresh()
            except (NacreError, OSError, RuntimeError) as error:  # RuntimeError: out of memory on the device
                self.problem = _told(error)
                _log.error("the champion cannot be served: %s", error)
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def refresh(self) -> None:
        """Look once, and serve what the slots hold if it has changed.

        Raises:
            NacreError: the ledger does not answer or the champion cannot be loaded. Another slot's version that
                cannot be loaded is logged and left out.
        """
        if self._lease is not None:
            self._lease.beat()  # touches a file: needs no room on the disk
        generation = await asyncio.to_thread(self._ledger.generation)
        if generation == self.generation and not self._due():
            return
        wanted, rollout = await asyncio.to_thread(self._read)
        self._hold({*wanted.values(), *(target.version for target in self.live.slots.values())})
        before = set(self._engine.loaded)
        targets = {slot: await self._load(slot, number) for slot, number in wanted.items()}
        slots = {slot: target for slot, target in targets.items() if target is not None}
        self.live = Live(slots, rollout)
        for target in before - set(slots.values()):
            await self._engine.unload(target)
        self._hold(set(wanted.values()))
        self.generation = generation
        self.problem = "" if CHAMPION in slots else "no version is champion: promote one (nacre promote)"

    def _read(self) -> tuple[dict[str, int], Rollout | None]:
        """The versions of the slots that are served, champion first, and the release under way."""
        found = self._ledger.slots()
        slots = {name: found[name].version for name in SERVED if name in found}
        return slots, self._ledger.releases.active()

    async def _load(self, slot: str, number: int) -> Target | None:
        """The version, loaded; None where it cannot be and the champion answers without it."""
        if self._refused.get(number, 0.0) > time.monotonic() and slot != CHAMPION:
            return None
        try:
            version = await asyncio.to_thread(self._ledger.version, number)
            target = Target(number, await asyncio.to_thread(self._resolve, version))
            if target not in self._engine.loaded:
                await self._engine.load(target)
                _log.info("version %d is loaded (%s)", number, slot)
        except (NacreError, OSError, RuntimeError) as error:
            if slot == CHAMPION:
                raise
            self._refused[number] = time.monotonic() + _RETRY_S
            _log.error("version %d (%s) cannot be served: %s", number, slot, _told(error))
            return None
        self._refused.pop(number, None)
        return target

    def _due(self) -> bool:
        """Whether a version that could not be loaded is to be tried again."""
        return any(when <= time.monotonic() for when in self._refused.values())

    def _hold(self, versions: set[int]) -> None:
        """Say what is served or loaded; that nobody can be told must not keep the champion from answering."""
        if self._lease is None:
            return
        try:
            self._lease.hold({one for one in versions if one})
        except NacreError as error:
            _log.warning("nacre gc does not know what this server holds: %s", error)


def _told(error: BaseException) -> str:
    return error.what if isinstance(error, NacreError) else f"{type(error).__name__}: {error}"

"""Follows the ledger: what it calls champion is what answers, without a restart."""

import asyncio
import logging
from collections.abc import Callable

from nacre.base.errors import NacreError
from nacre.records import Version, Weights
from nacre.registry.leases import Lease
from nacre.registry.ledger import Ledger
from nacre.serve.engines import Engine, Target

_log = logging.getLogger("nacre.serve")

POLL_S = 0.2
_RETRY_S = 5.0  # after a champion could not be loaded


class Watcher:
    """Asks the ledger for its generation and swaps the engine when the champion has changed.

    Args:
        resolve: where the weights of a version lie.
        lease: says which versions this server holds, so that no garbage collection takes them.

    Attributes:
        problem: why the newest champion is not the one that answers; empty when it is.
        generation: the ledger's generation that was last acted upon.
    """

    def __init__(
        self, ledger: Ledger, resolve: Callable[[Version], Weights], engine: Engine, lease: Lease | None = None
    ) -> None:
        self._ledger, self._resolve, self._engine, self._lease = ledger, resolve, engine, lease
        self.problem = ""
        self.generation = -1

    async def run(self) -> None:
        """Look for ever. A champion that cannot be loaded leaves the old one answering and is tried again."""
        while True:
            try:
                await self.refresh()
                pause_s = POLL_S
            except (NacreError, OSError, RuntimeError) as error:  # RuntimeError: out of memory on the device
                self.problem = error.what if isinstance(error, NacreError) else f"{type(error).__name__}: {error}"
                _log.error("the champion cannot be served: %s", error)
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)

    async def refresh(self) -> None:
        """Look once, and serve the champion if it is another one.

        Raises:
            NacreError: the ledger does not answer or the version cannot be loaded.
        """
        if self._lease is not None:
            self._lease.beat()  # touches a file: needs no room on the disk
        generation = await asyncio.to_thread(self._ledger.generation)
        if generation == self.generation:
            return
        slot = await asyncio.to_thread(self._ledger.slot, "champion")
        answering = self._engine.target
        self._hold(slot.version if slot else None, answering.version if answering else None)
        if slot is None:
            self._engine.swap(None)
        elif answering is None or answering.version != slot.version:
            version = await asyncio.to_thread(self._ledger.version, slot.version)
            weights = await asyncio.to_thread(self._resolve, version)
            self._engine.swap(await self._engine.load(Target(version.number, weights)))
            _log.info("version %d answers from now on", version.number)
        self._hold(slot.version if slot else None)
        self.generation = generation
        self.problem = "" if slot else "no version is champion: promote one (nacre promote)"

    def _hold(self, *versions: int | None) -> None:
        """Say what is served or loaded; that nobody can be told must not keep the champion from answering."""
        if self._lease is None:
            return
        try:
            self._lease.hold({one for one in versions if one})
        except NacreError as error:
            _log.warning("nacre gc does not know what this server holds: %s", error)

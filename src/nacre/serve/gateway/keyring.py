"""The keys that open this gateway: those of the configuration, and those of the ledger as they were a moment ago."""

import asyncio
import hashlib
import hmac
import logging
from concurrent.futures import ThreadPoolExecutor

from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.records.key import Period
from nacre.registry.keys import Held, Keys, Used, key_hash, key_id
from nacre.serve.gateway.callers import Caller, Meter

_log = logging.getLogger("nacre.serve")

POLL_S = 1.0
_NOBODY = "0" * 64  # compared with where no key has the id that was sent, so that both cases take as long


class KeyRing:
    """Finds the caller of a request without asking the ledger: its keys are read again when they have changed.

    What callers used is added to the ledger each second; a kill loses at most the last second of it.

    Args:
        configured: keys of nacre.yaml, ``--api-key`` and ``NACRE_API_KEY``: they open answers and feedback.
        keys: the ledger's; None where there is no ledger.
    """

    def __init__(self, configured: tuple[str, ...] = (), keys: Keys | None = None) -> None:
        self._configured = {hashlib.sha256(one.encode()).digest(): Caller(short_id(one)) for one in configured}
        self._keys = keys
        self._held: dict[str, Held] = {}
        self._callers: dict[str, Caller] = {one.id: one for one in self._configured.values()}
        self._changes = -1
        self._nobody = Caller("")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nacre-keys")

    @property
    def closed(self) -> bool:
        """Whether a key is needed: one is configured, or the ledger has ever had one."""
        return bool(self._configured or self._held)

    @property
    def usable(self) -> bool:
        """Whether there is a key that opens anything now."""
        return bool(self._configured) or any(held.key.opens(now()) for held in self._held.values())

    def find(self, authorization: str) -> Caller | None:
        """The caller of an ``Authorization`` header; None where it opens nothing.

        Every comparison is of hashes and takes the same time, wherever they differ.
        """
        if not self.closed:
            return self._nobody
        scheme, _, sent = authorization.partition(" ")
        sent = sent.strip()
        if scheme.lower() != "bearer":
            return None
        digest = hashlib.sha256(sent.encode("latin-1", "replace")).digest()
        matches = [caller for known, caller in self._configured.items() if hmac.compare_digest(digest, known)]
        return matches[0] if matches else self._of_ledger(sent)

    def load(self) -> None:
        """Read the keys for the first time.

        Raises:
            NacreError: the ledger does not answer.
        """
        if self._keys is not None:
            self._apply(*self._read())

    async def run(self) -> None:
        """Follow the ledger for ever. While it does not answer, the keys stay as they were last read."""
        said = ""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.refresh()
                said = ""
            except NacreError as error:
                if error.what != said:
                    _log.warning("the keys stay as they were: %s", error.what)
                said = error.what

    async def refresh(self) -> None:
        """Tell the ledger what was used, and read what has changed.

        Raises:
            NacreError: the ledger does not answer; what was not told is told next time.
        """
        if self._keys is None:
            return
        loop = asyncio.get_running_loop()
        fresh = {identity: one.meter.told() for identity, one in self._callers.items() if one.meter.fresh != Used()}
        if fresh:
            try:
                await loop.run_in_executor(self._thread, self._keys.add_use, fresh)
            except NacreError:
                for identity, used in fresh.items():
                    self._callers[identity].meter.take_back(used)
                raise
        self._apply(*await loop.run_in_executor(self._thread, self._read))

    async def close(self) -> None:
        """Tell the ledger the rest."""
        try:
            await self.refresh()
        except NacreError as error:
            _log.warning("what keys used in the last second is not counted: %s", error.what)
        self._thread.shutdown(wait=False)

    def _read(self) -> tuple[int, list[Held] | None, dict[str, int]]:
        """In the thread: the ledger's count of changes, the keys if it has risen, and what the budgets' keys used."""
        assert self._keys is not None
        changes = self._keys.changes()
        held = self._keys.all() if changes != self._changes else None
        known = held if held is not None else list(self._held.values())
        budgets = {one.key.id: one.key.limits.budget_per for one in known if one.key.limits.budget is not None}
        periods: set[Period] = set(budgets.values())
        used = {period: self._keys.use(period) for period in periods}
        return changes, held, {identity: used[per].get(identity, Used()).tokens for identity, per in budgets.items()}

    def _apply(self, changes: int, held: list[Held] | None, spent: dict[str, int]) -> None:
        if held is not None:
            self._take(held)
            self._changes = changes
        for identity, tokens in spent.items():
            self._callers[identity].meter.spent = tokens

    def _take(self, held: list[Held]) -> None:
        self._held = {one.key.id: one for one in held}
        for one in held:
            present = self._callers.get(one.key.id)
            meter = present.meter if present else Meter(one.key.limits)
            meter.limit(one.key.limits)
            self._callers[one.key.id] = Caller(one.key.id, frozenset(one.key.scopes), meter)

    def _of_ledger(self, sent: str) -> Caller | None:
        identity = key_id(sent) or ""
        held = self._held.get(identity)
        digest = key_hash(sent)
        present = hmac.compare_digest(digest, held.hash if held else _NOBODY)
        former = hmac.compare_digest(digest, (held.old_hash if held else "") or _NOBODY)
        if held is None or not held.key.opens(now()):
            return None
        if present or (former and now() < held.key.old_until):
            return self._callers[identity]
        return None


def short_id(key: str) -> str:
    """By what a key of the configuration is named: the start of its hash."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]

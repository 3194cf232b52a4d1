"""What was answered goes into the ledger behind the requests' back, in order and in batches."""

import logging
import threading

from nacre.base.errors import InputError, NacreError
from nacre.records import Interaction
from nacre.registry.ledger import Ledger

_log = logging.getLogger("nacre.serve")

_MOST_KEPT = 10_000  # waiting for a ledger that does not answer; what comes beyond is counted and dropped
_MOST_LETTERS = 64 * 1024 * 1024  # of them all: ten thousand long prompts would be gigabytes
_BATCH = 500
_RETRY_S = 1.0
_GATHER_S = 0.2  # a batch waits so long for more: a transaction costs as much as hundreds of rows


class Writer:
    """One thread that writes interactions. `add` never waits; `flush` waits for all that was added before.

    A ledger that refuses is asked again once a second, so that nothing is lost while there is room to keep it.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[Interaction] = []
        self._letters = 0  # of what waits
        self._changed = threading.Condition()
        self._added = 0
        self._written = 0
        self._flushing = 0
        self._closing = False
        self._broken = False  # the thread ended on an error that asking again would not mend
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="nacre-interactions", daemon=True)
        self._thread.start()

    def add(self, interaction: Interaction) -> None:
        """Have it written soon."""
        letters = _letters(interaction)
        with self._changed:
            full = len(self._waiting) >= _MOST_KEPT or self._letters + letters > _MOST_LETTERS
            if full or self._broken:
                self.dropped += 1
                if self.dropped == 1:
                    _log.error("the ledger takes no more: interactions are being dropped")
                return
            self._waiting.append(interaction)
            self._letters += letters
            self._added += 1
            if len(self._waiting) in (1, _BATCH):  # a thread that is woken for each row takes time from the requests
                self._changed.notify_all()

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until everything added so far is in the ledger.

        Raises:
            NacreError: the ledger did not take it in time.
        """
        with self._changed:
            goal = self._added
            self._flushing += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._written >= goal or self._broken, timeout_s)
            self._flushing -= 1
            if self._written < goal:
                raise NacreError("the ledger does not take what was answered", fix="see the server's log")

    def close(self) -> None:
        """Write what is left and stop. What a ledger that still refuses does not take is counted in the log."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._waiting or self.dropped:
            _log.error("%d interactions were not written", len(self._waiting) + self.dropped)

    def _run(self) -> None:
        try:
            while self._write_next():
                pass
        finally:
            with self._changed:
                self._broken = not self._closing
                self._changed.notify_all()

    def _write_next(self) -> bool:
        """Write one batch; False when there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(self._hurried, _GATHER_S)
            batch, last_try = self._waiting[:_BATCH], self._closing
        if not batch:
            return False
        if not self._write(batch):
            return not last_try  # what failed before `close` was called is tried once more after it
        with self._changed:
            del self._waiting[: len(batch)]
            self._letters -= sum(map(_letters, batch))
            self._written += len(batch)
            self._changed.notify_all()
        return True

    def _hurried(self) -> bool:
        return self._closing or self._flushing > 0 or len(self._waiting) >= _BATCH

    def _write(self, batch: list[Interaction]) -> bool:
        try:
            try:
                self._ledger.add_interactions(batch)
            except InputError:  # an attempt that seemed to fail had arrived; what was added since had not
                self._ledger.add_interactions([one for one in batch if self._ledger.interaction(one.id) is None])
        except NacreError as error:
            _log.warning("interactions are not written yet, trying again: %s", error.what)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, _RETRY_S)
            return False
        return True


def _letters(interaction: Interaction) -> int:
    return len(interaction.answer) + sum(len(turn.content) for turn in interaction.messages)

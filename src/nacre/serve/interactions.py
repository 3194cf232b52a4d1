"""What was answered, and what people said of it, goes into the ledger: in order, in batches, without what is private.

Answers are written behind the requests' back. An opinion's request waits until the transaction that holds the opinion
is on disk; all that came in while the one before was written share it, so that many of them cost little more than one.
"""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from nacre.base.errors import InputError, NacreError
from nacre.records import Feedback, Interaction
from nacre.registry.ledger import Ledger
from nacre.serve.gateway.logs import tell
from nacre.serve.privacy import Redactor

_log = logging.getLogger("nacre.serve")

_MOST_KEPT = 10_000  # waiting for a ledger that does not answer; what comes beyond is counted and dropped
_MOST_LETTERS = 64 * 1024 * 1024  # of them all: ten thousand long prompts would be gigabytes
_BATCH = 500
_RETRY_S = 1.0
_GATHER_S = 0.2  # a batch waits so long for more: a transaction costs as much as hundreds of rows
_BREATH_S = 2e-5  # a pause: while this thread works with texts, no request is answered
_STRETCH_S = 1e-4  # how long it works without one; a pause itself costs as much as cleaning a short answer


@dataclass(frozen=True)
class _Said:
    """Opinions that are stored together or not at all.

    Attributes:
        goal: how many answers were added before them: those they are about are among these.
        done: is given the opinions' numbers once they are on disk.
    """

    opinions: Sequence[Feedback]
    goal: int
    done: "Future[list[int]]" = field(default_factory=Future)


class Writer:
    """One thread that writes. `add` never waits; `flush` waits for all that was added before.

    A ledger that refuses answers is asked again once a second, so that nothing is lost while there is room to keep it.

    Args:
        ledger: where to.
        redactor: takes out what is private; what it cannot clean is counted and never written.
    """

    def __init__(self, ledger: Ledger, redactor: Redactor | None = None) -> None:
        self._ledger = ledger
        self.redactor = redactor or Redactor()
        self._waiting: list[Interaction] = []
        self._cleaned: list[Interaction] = []  # the first of what waits, after the redactor
        self._taken = 0  # how many those were before
        self._said: list[_Said] = []
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

    def say(self, opinions: Sequence[Feedback]) -> "Future[list[int]]":
        """Store opinions on answers that were added before, all or none.

        Returns:
            Their numbers, once they are on disk; or what `Ledger.add_opinions` says against them, or a NacreError
            where the ledger does not take them. Cancelled before they are written, they are not.
        """
        with self._changed:
            said = _Said(opinions, self._added)
            if self._closing or self._broken or len(self._said) >= _MOST_KEPT:
                said.done.set_exception(_not_taken())
            else:
                self._said.append(said)
                self._changed.notify_all()
        return said.done

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
                raise _not_taken()

    def close(self) -> None:
        """Write what is left and stop. What a ledger that still refuses does not take is counted in the log."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        lost = len(self._waiting) + self.dropped
        if lost:
            _log.error("%d interactions were not written", lost)

    def _run(self) -> None:
        try:
            self.redactor.prepare()
            while self._write_next():
                pass
        finally:
            with self._changed:
                self._broken = not self._closing
                left, self._said = self._said, []
                self._changed.notify_all()
            _settle(left, _not_taken())

    def _write_next(self) -> bool:
        """Write one batch; False when there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._said or self._closing)
            self._changed.wait_for(self._hurried, _GATHER_S)
            batch, last_try = self._waiting[: self._taken or _BATCH], self._closing
            reached = self._written + len(batch)
            said = [one for one in self._said if one.goal <= reached][:_BATCH]
        if not batch and not said:
            return not last_try
        if batch and not self._write(batch):
            return not last_try  # what failed before `close` was called is tried once more after it
        with self._changed:
            count = self._taken
            self._letters -= sum(map(_letters, self._waiting[:count]))
            del self._waiting[:count]
            self._cleaned, self._taken = [], 0
            self._written += count
            done = {id(one) for one in said}
            self._said = [one for one in self._said if id(one) not in done]
            self._changed.notify_all()
        self._store([one for one in said if one.done.set_running_or_notify_cancel()])
        return True

    def _hurried(self) -> bool:
        return self._closing or self._flushing > 0 or bool(self._said) or len(self._waiting) >= _BATCH

    def _write(self, batch: list[Interaction]) -> bool:
        if not self._taken:  # else it is what the ledger refused before
            self._cleaned, self._taken = self._clean(batch), len(batch)
        try:
            try:
                self._ledger.add_interactions(self._cleaned)
            except InputError:  # an attempt that seemed to fail had arrived; what was added since had not
                missing = [one for one in self._cleaned if self._ledger.interaction(one.id) is None]
                self._ledger.add_interactions(missing)
        except NacreError as error:
            _log.warning("interactions are not written yet, trying again: %s", error.what)
            with self._changed:
                self._changed.wait_for(lambda: self._closing, _RETRY_S)
            return False
        return True

    def _clean(self, batch: Sequence[Interaction]) -> list[Interaction]:
        before, kept = self.redactor.removed.copy(), []
        breath_s = time.perf_counter()
        for one in batch:
            cleaned = self.redactor.clean(one)
            if cleaned is None:
                with self._changed:
                    self.dropped += 1
                _log.error("an answer could not be cleaned, and is not kept")
            else:
                kept.append(cleaned)
            if time.perf_counter() - breath_s > _STRETCH_S:
                time.sleep(_BREATH_S)
                breath_s = time.perf_counter()
        removed = self.redactor.removed - before
        if removed:
            tell("removed before it was written", {"removed": dict(removed), "answers": len(batch)})
        return kept

    def _store(self, said: Sequence[_Said]) -> None:
        """Opinions that are to be stored, in one transaction."""
        clean, unclean = list[_Said](), list[_Said]()
        for one in said:
            cleaned = [self.redactor.clean(opinion) for opinion in one.opinions]
            found = [opinion for opinion in cleaned if opinion is not None]
            whole = len(found) == len(cleaned)
            (clean if whole else unclean).append(_Said(found, one.goal, one.done))
        _settle(unclean, NacreError("the text could not be cleaned of what is private", fix="see the server's log"))
        if not clean:
            return
        results: list[list[int] | InputError] | None = None
        problem = _not_taken()
        try:
            results = self._ledger.add_opinions([one.opinions for one in clean])
        except NacreError as error:
            problem = error
        finally:
            if results is None:
                _settle(clean, problem)
        if results is None:
            return
        for one, result in zip(clean, results, strict=True):
            if isinstance(result, InputError):
                one.done.set_exception(result)
            else:
                one.done.set_result(result)


def _settle(said: Sequence[_Said], error: NacreError) -> None:
    """Tell those who wait that nothing was stored."""
    for one in said:
        if one.done.running() or one.done.set_running_or_notify_cancel():
            one.done.set_exception(error)


def _not_taken() -> NacreError:
    return NacreError("the ledger does not take what was answered", fix="see the server's log")


def _letters(interaction: Interaction) -> int:
    return len(interaction.answer) + sum(len(turn.content) for turn in interaction.messages)

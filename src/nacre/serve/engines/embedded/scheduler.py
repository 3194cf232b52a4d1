"""The thread that owns the models: one step after the other, each with all rows that can go on.

A row joins at the next step when there is a place and memory for it, and leaves with the step that ends it. A step
reads one token of every row that is being answered, and `prefill_tokens` of the prompts that are being read, in the
order in which they came. When the memory for keys and values is used up, the youngest row gives its back and reads
again later what it has read and said; its text does not change by that.
"""

import logging
import threading
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch

from nacre.base.errors import NacreError
from nacre.serve.engines import EngineError, stopped
from nacre.serve.engines.embedded.attention import Unfit
from nacre.serve.engines.embedded.drawing import Drawn
from nacre.serve.engines.embedded.residents import Base, Resident
from nacre.serve.engines.embedded.rows import Answer, Embedding, Row
from nacre.serve.engines.embedded.runners import BARE, Piece, Read, Wanted
from nacre.serve.engines.sampling import greedy
from nacre.serve.settings import EmbeddedSettings

_log = logging.getLogger("nacre.serve")

_WHOLE_TOKENS = 64  # of a prompt whose every position is asked for its logits, in one step: [T, V] is large
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, Unfit)  # out of memory, broken weights

Job = tuple[Callable[[], None], Future[None]]


class Scheduler:
    """Runs rows.

    Args:
        free: takes a version out of memory.
    """

    def __init__(self, settings: EmbeddedSettings, free: Callable[[Resident], None]) -> None:
        self._settings, self._free = settings, free
        self._waiting: deque[Row] = deque()
        self._running: list[Row] = []  # in the order of their coming
        self._ended: list[Row] = []  # of whom something is still to be delivered
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="nacre-engine", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Rows that have."""
        return len(self._running)

    def add(self, row: Row) -> None:
        """Take a row on; its version must have been told by `hold`."""
        with self._changed:
            if self.closed:
                raise stopped()
            self._waiting.append(row)
            self._changed.notify()

    def hold(self, resident: Resident) -> None:
        """A version will be asked for one row."""
        with self._changed:
            resident.rows += 1

    def forget(self, row: Row) -> None:
        """A cancelled row gives its place back at once."""
        with self._changed:
            if row in self._waiting:
                self._waiting.remove(row)
                self._jobs.append((lambda: self._end(row), Future()))
            self._changed.notify()

    def release(self, resident: Resident) -> "Future[None]":
        """A row that `hold` announced does not come."""
        return self.later(lambda: self._let_go(resident))

    def later(self, job: Callable[[], None]) -> "Future[None]":
        """Run something between two steps."""
        future: Future[None] = Future()
        with self._changed:
            if self.closed:
                future.set_exception(stopped())
                return future
            self._jobs.append((job, future))
            self._changed.notify()
        return future

    def between(self, job: Callable[[], None]) -> None:
        """Run something between two steps, and wait until it is done."""
        self.later(job).result()

    def close(self) -> None:
        """Stop; what has not ended fails."""
        with self._changed:
            self.closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                # No variable of a waiting loop may keep a version in memory that is gone.
                while self._turn():
                    self._deliver()
        finally:
            with self._changed:
                self.closed = True
                left, self._running = [*self._running, *self._waiting], []
                self._waiting.clear()
                jobs, self._jobs = self._jobs, deque()
            for _, future in jobs:
                future.set_exception(stopped())
            for row in left:
                row.fail(stopped())
                row.resident, row.seat = None, None
            self._ended += left
            self._deliver()

    def _turn(self) -> bool:
        """One step of every model that has rows; False when the engine is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._running or self._jobs or self.closed)
            if self.closed:
                return False
            jobs, self._jobs = self._jobs, deque()
        for job, future in jobs:
            try:
                job()
                future.set_result(None)
            except (*_FAILURES, NacreError, KeyError, AttributeError) as error:  # is told to whoever asked for it
                future.set_exception(error)
        for row in [row for row in self._running if row.cancelled]:
            self._end(row)
        self._admit()
        for base in {id(row.resident.base): row.resident.base for row in self._running if row.resident}.values():
            self._step(base)
        return True

    def _admit(self) -> None:
        full: set[int] = set()  # bases whose memory is used up: who came first is first
        with self._changed:
            waiting = list(self._waiting)
        for row in waiting:
            if len(self._running) >= self._settings.max_running:
                return
            resident = row.resident
            if resident is None or id(resident.base) in full:
                continue
            if row.seat is None:
                row.seat = resident.base.runner.take(len(row.ids) + 1, row.adapter)
            if row.seat is None:
                full.add(id(resident.base))
                continue
            with self._changed:
                if row in self._waiting:  # it may have been cancelled meanwhile
                    self._waiting.remove(row)
                    self._running.append(row)
                    began = True
                else:
                    began = False
            if began and not row.routing:
                self._begin(row, resident)

    def _begin(self, row: Row, resident: Resident) -> None:
        """Take over what is known of the row's beginning."""
        prefixes = resident.base.prefixes
        if prefixes is not None and row.tenant is not None and not row.whole:
            row.read = prefixes.fill(row.seat, row.ids, (row.target, row.adapter, row.tenant))
            row.cached_tokens = max(row.cached_tokens, min(row.read, row.prompt_tokens))

    def _step(self, base: Base) -> None:
        rows = [row for row in self._running if row.resident is not None and row.resident.base is base]
        self._make_room(base, rows)
        planned = self._plan(base, [row for row in rows if row.seat is not None])
        if not planned:
            return
        try:
            found = base.runner.run([piece for _, piece in planned])
            ready = [
                (row, read)
                for (row, piece), read in zip(planned, found, strict=True)
                if self._took(row, piece, read, base)
            ]
            self._draw(ready)
        except _FAILURES as error:
            _log.exception("a step of version %s failed", planned[0][0].target.label)
            for row, _ in planned:
                if not row.done:
                    row.fail(_failed(error))
        for row, _ in planned:
            if row.done:
                self._end(row)

    def _make_room(self, base: Base, rows: Sequence[Row]) -> None:
        """Every row that goes on gets room for one token more, the oldest first."""
        for row in rows:
            while row.seat is not None and not base.runner.grow(row.seat, len(row.ids)):
                self._set_back([other for other in rows if other.seat is not None][-1], base)

    def _set_back(self, row: Row, base: Base) -> None:
        """Take a row's memory; it reads anew when there is room."""
        base.runner.free(row.seat)
        row.seat = None
        row.start_over()
        self._running.remove(row)
        with self._changed:
            self._waiting.appendleft(row)

    def _plan(self, base: Base, rows: Sequence[Row]) -> list[tuple[Row, Piece]]:
        planned = []
        budget = self._settings.prefill_tokens
        for row in rows:
            left = len(row.ids) - row.read
            answering = left == 1 and row.read > 0
            if not answering and budget <= 0:
                continue
            size = left
            if not (answering or base.runner.whole_prompts):
                size = min(left, budget, _WHOLE_TOKENS if row.whole else left)
            budget -= 0 if answering else size
            hidden = row.routing or row.wants_hidden
            logits: Wanted = "none" if hidden or size < left else "last"
            if row.whole and not hidden:
                logits = "all"
            piece = Piece(
                row.seat,
                row.ids[row.read : row.read + size],
                row.read,
                BARE if row.routing else row.adapter,
                logits,
                hidden,
            )
            planned.append((row, piece))
        return planned

    def _took(self, row: Row, piece: Piece, read: Read, base: Base) -> bool:
        """A row has read a piece: note what came of it. Whether its next token can be drawn now."""
        first = row.read == 0 or row.read < row.prompt_tokens
        row.read += len(piece.ids)
        row.add_hidden(read.hidden_D)
        if isinstance(row, Answer) and row.whole and read.logits_PV is not None:
            row.heard_prompt(read.logits_PV, piece.start)
        if row.read < len(row.ids):
            return False
        resident = row.resident
        assert resident is not None
        if row.routing:
            assert row.hidden_D is not None
            row.adapter = resident.choose(row.hidden_D / len(row.ids))
            row.routing = False
            row.start_over()
            self._begin(row, resident)
            return False
        if first and base.prefixes is not None and row.tenant is not None:
            base.prefixes.keep(row.seat, row.ids[: row.prompt_tokens], (row.target, row.adapter, row.tenant))
        if isinstance(row, Embedding):
            row.finish()
            return False
        assert isinstance(row, Answer)
        return not first or row.say_prompt()

    def _draw(self, ready: Sequence[tuple[Row, Read]]) -> None:
        """The next token of every row that is ready; those that take the likeliest together."""
        answers = [(row, read.logits_PV[-1:]) for row, read in ready if read.logits_PV is not None]
        plain = [(row, logits_1V) for row, logits_1V in answers if isinstance(row, Answer) and row.draw.plain]
        if plain:
            tokens = greedy(torch.cat([logits_1V for _, logits_1V in plain]))
            for (row, _), token in zip(plain, tokens, strict=True):
                if token is None:
                    _fail(row, ValueError("the model's logits are not numbers"))
                else:
                    row.accept(Drawn(token))
        others = [(row, logits_1V) for row, logits_1V in answers if isinstance(row, Answer) and not row.draw.plain]
        if others:
            logits_RV = torch.cat([logits_1V for _, logits_1V in others]).float().cpu()
            for (row, _), logits_V in zip(others, logits_RV, strict=True):
                try:
                    row.accept(row.draw.next(logits_V))
                except _FAILURES as error:
                    _fail(row, error)

    def _end(self, row: Row) -> None:
        """A row has ended: its memory, its version and its place are free."""
        resident = row.resident
        if resident is None:
            return
        if row.seat is not None:
            resident.base.runner.free(row.seat, spoilt=row.spoilt)
        row.seat, row.resident = None, None
        if row in self._running:
            self._running.remove(row)
        self._ended.append(row)
        self._let_go(resident)

    def _let_go(self, resident: Resident) -> None:
        with self._changed:
            resident.rows -= 1
            last = resident.leaving and resident.rows == 0
        if last:
            self._free(resident)

    def _deliver(self) -> None:
        """Bring what came of a step to its readers: one call for each event loop."""
        rows, self._ended = [*self._running, *self._ended], []
        found: dict[AbstractEventLoop, list[Callable[[], None]]] = {}
        for row in rows:
            delivery = row.delivery()
            if delivery is not None:
                found.setdefault(row.loop, []).append(delivery)
        for loop, deliveries in found.items():
            try:
                loop.call_soon_threadsafe(_all, deliveries)
            except RuntimeError:  # the event loop is closed: nobody listens any more
                for row in rows:
                    row.cancelled = row.cancelled or row.loop is loop


def _all(deliveries: Sequence[Callable[[], None]]) -> None:
    for deliver in deliveries:
        deliver()


def _fail(row: Row, error: BaseException) -> None:
    _log.error("an answer of version %s failed: %s", row.target.label, error)
    row.fail(_failed(error))


def _failed(error: BaseException) -> EngineError:
    return EngineError(f"the model failed: {type(error).__name__}", fix="see the server's log")

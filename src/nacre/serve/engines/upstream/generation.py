"""One answer on its way from a server to the client."""

import asyncio
import time
from collections.abc import Callable

from nacre.base.errors import NacreError
from nacre.serve.engines import Delta, EngineError, Finish, Target
from nacre.serve.engines.upstream.answers import Reading
from nacre.serve.engines.upstream.errors import Failed
from nacre.serve.engines.upstream.exchange import BROKEN, Exchange
from nacre.serve.engines.upstream.pool import Opened, Pool
from nacre.serve.engines.upstream.replica import read_all
from nacre.serve.engines.upstream.requests import Asked, estimated
from nacre.serve.engines.upstream.settings import Upstream
from nacre.serve.engines.upstream.sse import Events


class UpstreamGeneration:
    """One running answer, see `nacre.serve.engines.Generation`.

    A whole answer is asked for and read in its first `next`, so that it costs no task of its own; that call must not
    be given up and made again. A streamed one is opened by `accepted`.

    Args:
        on_end: called once, when nothing more will come from the server.

    Attributes:
        due_s: monotonic time by which the server must have said something.
        begun: whether the first piece has come; whole answers count as begun.
    """

    def __init__(
        self,
        target: Target,
        asked: Asked,
        pool: Pool,
        settings: Upstream,
        on_end: "Callable[[UpstreamGeneration], None]",
    ) -> None:
        self.target, self._asked, self._pool, self._settings, self._on_end = target, asked, pool, settings, on_end
        self._reading = Reading(asked.chat)
        self._events = Events(settings.max_event_bytes)
        self._opened: Opened | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiter: asyncio.Task[object] | None = None  # whoever waits in `next`, so that `stop` can wake it
        self._end: Finish | NacreError | None = None
        self._bytes = self._reopened = 0
        self._sent = False  # whether a server has the prompt, which is before it answers
        now_s = time.monotonic()
        self._last_s = now_s + settings.answer_s
        self.due_s = min(self._last_s, now_s + settings.first_s) if asked.stream else self._last_s
        self.begun = not asked.stream

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, once the server has told it, which it does at the end; one that does not, or was not
        heard to its end, has still read it: a token for four bytes then. 0 where no server ever had it.
        """
        over = self._reading.done or isinstance(self._end, Finish)
        if self._reading.prompt_tokens or not (over and self._sent):
            return self._reading.prompt_tokens
        return estimated(self._asked)

    async def accepted(self, within_s: float) -> None:
        """Return once the server has accepted a streamed request, or after `within_s`: then `next` says what came.

        Raises:
            NacreError: no server accepts it.
        """
        loop = asyncio.get_running_loop()
        known: asyncio.Future[None] = loop.create_future()

        def tell(_: object = None) -> None:
            if not known.done():
                known.set_result(None)

        self._opening = loop.create_task(self._open())
        self._opening.add_done_callback(tell)
        timer = loop.call_later(within_s, tell)
        try:
            await known
        finally:
            timer.cancel()
        if isinstance(self._end, NacreError):
            raise self._end

    async def next(self) -> Delta | Finish:
        """The next piece, see `nacre.serve.engines.Generation.next`."""
        if self._end is None:
            self._waiter = asyncio.current_task()
            try:
                return await (self._stream() if self._asked.stream else self._whole())
            except asyncio.CancelledError:
                if not self._woken():
                    raise
            except Failed as failure:
                self._finish(failure.error, broken=failure.broken)
            except NacreError as error:
                self._finish(error, broken=True)
            finally:
                self._waiter = None
        end = self._end
        if isinstance(end, NacreError):
            raise end
        assert end is not None
        return end

    def cancel(self) -> None:
        """Stop; the server sees its connection close."""
        self.stop(Finish("aborted", self._reading.tokens))

    def stop(self, end: Finish | NacreError) -> None:
        """End now, as `end` says. Harmless after the end."""
        if self._end is not None:
            return
        self._finish(end, broken=True if isinstance(end, NacreError) else None)
        if self._waiter is not None:
            self._waiter.cancel()

    def too_late(self) -> Finish | NacreError:
        """What to end with once `due_s` has passed."""
        if self._reading.finished:
            return self._reading.finish()  # nothing but the usage is missing
        return EngineError("the upstream is too slow: the answer was broken off", fix="see serve.upstream")

    def _woken(self) -> bool:
        """Whether a cancellation was `stop` waking us, and nothing else."""
        if self._end is not None:
            task = asyncio.current_task()
            assert task is not None
            return task.uncancel() == 0
        if not self._asked.stream:  # the request is lost with the call that was waiting for it
            self._finish(Finish("aborted", 0), broken=None)
        return False

    def _finish(self, end: Finish | NacreError, *, broken: bool | None) -> None:
        if self._end is not None:
            return
        self._end = end
        if self._opened is not None:
            self._let_go(self._opened, broken)
        elif self._opening is not None:
            self._opening.cancel()
        self._on_end(self)

    def _let_go(self, opened: Opened, broken: bool | None) -> None:
        opened.end(broken=broken)
        if broken is False:
            self._pool.keep(opened.answer)
        else:
            opened.answer.close()

    async def _open(self) -> None:
        try:
            opened = await self._pool.open(self.target, self._asked, self._on_sent)
        except NacreError as error:
            self._finish(error, broken=None)
            return
        self._opened = opened

    def _on_sent(self, sent: bool) -> None:
        self._sent = sent

    async def _whole(self) -> Delta | Finish:
        if self._reading.done:
            end = self._reading.finish()
            self._finish(end, broken=False)
            return end
        while True:
            opened = self._opened = await self._pool.open(self.target, self._asked, self._on_sent)
            try:
                body = await read_all(opened.answer, self._settings.max_answer_bytes)
                if not body:
                    raise Failed(EngineError("the upstream's answer is empty"))
            except Failed as failure:
                if failure.again and self._again():
                    continue
                raise
            return self._reading.whole(body)

    async def _stream(self) -> Delta | Finish:
        reading = self._reading
        while not reading.done:
            if self._opened is None:
                self._opening = self._opening or asyncio.get_running_loop().create_task(self._open())
                await asyncio.wait((self._opening,))
                if self._opened is None:  # told by `_end`
                    raise EngineError("the upstream cannot be reached")
            try:
                data = await self._opened.answer.content.readany()
            except BROKEN:
                data = b""
            if not data:
                if not self._bytes and self._again():
                    continue
                break
            piece = self._read(data, self._opened.answer)
            if piece is not None:
                return piece
        end = reading.finish()
        self._finish(end, broken=False)
        return end

    def _read(self, data: bytes, answer: Exchange) -> Delta | None:
        """The piece that the events of one network read make; None where there is nothing to show yet."""
        if not self._bytes and not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise EngineError("the upstream's answer is no stream of events")
        self._bytes += len(data)
        if self._bytes > self._settings.max_answer_bytes:
            raise EngineError(f"the upstream's answer is longer than {self._settings.max_answer_bytes} bytes")
        events = self._events.feed(data)
        if not events:
            return None
        piece = self._reading.events(events)
        self.begun = self.begun or piece is not None
        pause_s = self._settings.stall_s if self.begun else self._settings.first_s
        self.due_s = min(self._last_s, time.monotonic() + pause_s)
        return piece

    def _again(self) -> bool:
        """Whether a server that broke off before its first byte is left for another; counts against the budget."""
        opened = self._opened
        if self._reopened >= self._settings.retries or not self._pool.spend() or opened is None:
            return False
        self._reopened += 1
        self._let_go(opened, broken=True)
        self._opened = self._opening = None
        self._sent = False
        return True

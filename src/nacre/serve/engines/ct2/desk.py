"""The threads that answer: each takes the request that has waited longest and stays with it to its end.

CTranslate2 draws a token and only then tells of it. Where the likeliest token is wanted, or one by plain temperature,
that is what the answer goes on with. Everything else (a seed, top_p, penalties, a bias, a format, log probabilities) is
drawn here, from the logits that it tells, as the embedded engine draws: CTranslate2 goes on with the likeliest token,
and where another one was drawn it is stopped and begins again behind it, which reads the text so far once more.

Shapes: V vocabulary.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from nacre.base.errors import NacreError
from nacre.serve.engines import EngineError, Sampling, stopped
from nacre.serve.engines.ct2.residents import Resident
from nacre.serve.engines.embedded.drawing import Draw, Drawn
from nacre.serve.engines.embedded.rows import Answer

_log = logging.getLogger("nacre.serve")
# CTranslate2 raises the first three; the others come of weights that are broken.
_FAILURES = (RuntimeError, ValueError, MemoryError, IndexError, TypeError)


class Request:
    """An answer that is asked for, and the version that gives it."""

    def __init__(self, answer: Answer, resident: Resident, sampling: Sampling) -> None:
        self.answer, self.resident, self.sampling = answer, resident, sampling
        self.trouble: NacreError | None = None

    @property
    def native(self) -> dict[str, Any] | None:
        """How CTranslate2 draws, where it can draw what is wanted; None where it is drawn here."""
        sampling = self.sampling
        if self.answer.draw.plain:
            return {"sampling_topk": 1}
        plain = (
            sampling.logprobs is None
            and sampling.format is None
            and not sampling.logit_bias
            and sampling.seed is None
            and (sampling.top_p, sampling.min_p) == (1, 0)
            and (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1, 0, 0)
        )
        return {"sampling_topk": sampling.top_k, "sampling_temperature": sampling.temperature} if plain else None


class Desk:
    """Requests that wait, and the threads that answer them.

    Args:
        threads: how many are answered side by side.
        ended: is told of every request that has ended, in the thread that ended it.
    """

    def __init__(self, threads: int, ended: Callable[[Resident], None]) -> None:
        self._ended = ended
        self._waiting: deque[Request] = deque()
        self._running: set[Request] = set()
        self._changed = threading.Condition()
        self.closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"nacre-ct2-{place}", daemon=True) for place in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests that have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that have."""
        return len(self._running)

    def add(self, request: Request) -> None:
        """Take a request on.

        Raises:
            EngineError: the engine has stopped.
        """
        with self._changed:
            if self.closed:
                raise stopped()
            self._waiting.append(request)
            self._changed.notify()

    def forget(self, answer: Any) -> None:
        """A cancelled request that waits gives its place back at once; one that runs ends with its next token."""
        with self._changed:
            found = next((one for one in self._waiting if one.answer is answer), None)
            if found is not None:
                self._waiting.remove(found)
        if found is not None:
            self._ended(found.resident)

    def close(self) -> None:
        """Stop; what has not ended fails."""
        with self._changed:
            self.closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for request in left:
            _fail(request, stopped())
            self._ended(request.resident)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._next():
            pass  # no variable of a waiting loop may keep a version in memory that is gone

    def _next(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.closed)
            if self.closed:
                return False
            request = self._waiting.popleft()
            self._running.add(request)
        try:
            self._answer(request)
        finally:
            with self._changed:
                self._running.discard(request)
            self._ended(request.resident)
        return True

    def _answer(self, request: Request) -> None:
        answer = request.answer
        if not answer.cancelled:
            self._begin(request)
        while not (answer.done or answer.cancelled):
            before = len(answer.ids)
            try:
                self._generate(request)
            except _FAILURES as error:
                request.trouble = _failed(error)
            if self.closed and not answer.done:
                request.trouble = stopped()
            elif len(answer.ids) == before and not (answer.done or answer.cancelled) and request.trouble is None:
                request.trouble = _failed(RuntimeError("it said nothing"))
            if request.trouble is not None and not answer.done:
                _fail(request, request.trouble)

    def _begin(self, request: Request) -> None:
        """Give the prompt back where that is asked for, with its log probabilities where they are."""
        answer, resident = request.answer, request.resident
        try:
            if answer.whole:
                told_1TV = np.array(resident.generator.forward_batch([resident.prompt(answer.ids)]), dtype=np.float32)
                answer.heard_prompt(torch.from_numpy(told_1TV[0]), 0)
            answer.say_prompt()
        except _FAILURES as error:
            _fail(request, _failed(error))
        _deliver(answer)

    def _generate(self, request: Request) -> None:
        """Have CTranslate2 go on until the answer ends, or until another token was drawn than it goes on with."""
        answer, resident = request.answer, request.resident
        native = request.native
        resident.generator.generate_batch(
            [resident.prompt(answer.ids)],
            max_length=max(resident.context_tokens - len(answer.ids), 1),
            include_prompt_in_result=False,
            end_token=sorted(resident.stop_ids) or None,
            return_scores=True,
            return_logits_vocab=native is None,
            callback=lambda step: self._step(request, step, drawn_here=native is None),
            **(native or {"sampling_topk": 1}),
        )

    def _step(self, request: Request, step: Any, *, drawn_here: bool) -> bool:
        """A token was made; whether CTranslate2 is to stop. An exception here would end the process."""
        answer = request.answer
        if answer.cancelled or answer.done or self.closed:
            return True
        try:
            drawn = _drawn(answer.draw, step) if drawn_here else Drawn(step.token_id)
            if not drawn_here and not math.isfinite(step.log_prob):
                raise ValueError("the model's logits are not numbers")
            answer.accept(drawn)
        except _FAILURES as error:
            request.trouble = _failed(error)
            return True
        _deliver(answer)
        return answer.done or drawn.token != step.token_id


def _drawn(draw: Draw, step: Any) -> Drawn:
    """The token that this request's own draw takes from the logits."""
    logits_V = torch.from_numpy(np.array(step.logits, dtype=np.float32).reshape(-1))
    if torch.isnan(logits_V).any():
        raise ValueError("the model's logits are not numbers")
    return draw.next(logits_V)


def _deliver(answer: Answer) -> None:
    """Bring what came of a token to its reader."""
    delivery = answer.delivery()
    if delivery is None:
        return
    try:
        answer.loop.call_soon_threadsafe(delivery)
    except RuntimeError:  # the event loop is closed: nobody listens any more
        answer.cancelled = True


def _fail(request: Request, error: NacreError) -> None:
    _log.error("an answer of version %s failed: %s", request.answer.target.label, error.what)
    request.answer.fail(error)
    _deliver(request.answer)


def _failed(error: BaseException) -> EngineError:
    _log.error("CTranslate2: %s", error)
    return EngineError(f"the model failed: {type(error).__name__}", fix="see the server's log")

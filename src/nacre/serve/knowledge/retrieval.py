"""The documents as a server has them: searched in threads of their own, within a time, and never in an answer's way."""

import asyncio
import json
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from nacre.base.errors import NacreError
from nacre.serve.knowledge.guard import order_in, quoted
from nacre.serve.knowledge.search import Hits, Searcher
from nacre.serve.knowledge.snapshots import Where

_log = logging.getLogger("nacre.serve")

State = Literal["found", "nothing", "off", "failed", "late", "refused"]
STATES: tuple[State, ...] = ("found", "nothing", "off", "failed", "late", "refused")
_THREADS = 2
_MISTAKES = (NacreError, OSError, RuntimeError, ValueError)  # LanceDB raises the latter two


@dataclass(frozen=True)
class Retrieved:
    """What a request was given from the documents.

    Attributes:
        state: `found`; `nothing` relevant; `off`, as the client wished; the store `failed` or was too `late`; the
            engine `refused` the prompt with the passages, and answered without.
        snapshot: that was searched; None where none was.
        block: the passages as a part of the system message; empty where there are none.
        citations: what they are, numbered as in the block.
    """

    state: State
    snapshot: int | None = None
    block: str = ""
    citations: tuple[dict[str, Any], ...] = ()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What an answer says of it in its headers; file names as JSON escapes them."""
        told = [(b"x-nacre-knowledge", self.state.encode())]
        if self.citations:
            told.append((b"x-nacre-citations", json.dumps(self.citations).encode()))
        return told

    def told(self) -> dict[str, Any]:
        """What an answer says of it in its body."""
        return {"knowledge": self.state, "snapshot": self.snapshot, "citations": list(self.citations)}


class Retrieval:
    """Looks up what is asked. While no documents were added it does nothing.

    Args:
        where: the store.

    Attributes:
        counts: how many requests came to each state.
        problem: why the last search failed; empty where it did not.
    """

    def __init__(self, where: Where) -> None:
        self._searcher, self._timeout_s = Searcher(where), where.settings.timeout_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="nacre-knowledge")
        self.counts: Counter[State] = Counter()
        self.problem = ""

    @property
    def in_use(self) -> bool:
        """Whether there are documents. Looks at one file."""
        return self._searcher.in_use

    @property
    def snapshot(self) -> int | None:
        """The number of the one that was searched last."""
        return self._searcher.snapshot

    async def start(self) -> None:
        """Load what the first question needs; a store that is broken keeps no server from starting."""
        if self.in_use:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._searcher.warm)
            except _MISTAKES as error:
                self._failed(error)

    async def look(self, question: str) -> Retrieved | None:
        """The passages for a question; None while there are no documents. Never raises what the store does."""
        if not self.in_use:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                hits = await asyncio.get_running_loop().run_in_executor(self._threads, self._search, question)
        except TimeoutError:
            return self.count(Retrieved("late"))
        except _MISTAKES as error:
            self._failed(error)
            return self.count(Retrieved("failed"))
        self.problem = ""
        if hits is None:
            return None
        if not hits.passages:
            return self.count(Retrieved("nothing", hits.snapshot))
        citations = tuple(one.citation(number) for number, one in enumerate(hits.passages, 1))
        return self.count(Retrieved("found", hits.snapshot, quoted(hits.passages), citations))

    def count(self, retrieved: Retrieved) -> Retrieved:
        """Count what a request came to."""
        self.counts[retrieved.state] += 1
        return retrieved

    def refused(self, retrieved: Retrieved) -> Retrieved:
        """The engine would not take the passages: the request is counted as such, and no longer as `found`."""
        self.counts[retrieved.state] -= 1
        return self.count(Retrieved("refused", retrieved.snapshot))

    def close(self) -> None:
        """Wait for no search."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _search(self, question: str) -> Hits | None:
        """Passages none of which speaks to the model, nor does one together with the next."""
        hits = self._searcher.search(question)
        if hits is None:
            return None
        kept = list(hits.passages)
        while len(kept) > 1 and not all(one.allowed for one in kept) and order_in(one.text for one in kept):
            kept.pop()
        return replace(hits, passages=tuple(kept))

    def _failed(self, error: BaseException) -> None:
        """Tell each problem once, until it is gone."""
        said = error.what if isinstance(error, NacreError) else f"{type(error).__name__}: {error}"
        if said != self.problem:
            _log.error("the documents cannot be searched, and answers come without them: %s", said)
        self.problem = said

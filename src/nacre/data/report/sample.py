"""One row as the measures see it, and a sample of rows whose size does not grow with their number."""

import heapq
from typing import NamedTuple

from nacre.records import Example

SAMPLE_ROWS = 2_000
SAMPLE_CHARS = 2_000  # of a prompt, and of an answer


class Look(NamedTuple):
    """A row, its hash, what is asked and what is answered, and both with personal data masked."""

    row: Example
    content_id: str
    prompt: str
    answer: str
    masked_prompt: str
    masked_answer: str

    @property
    def text(self) -> str:
        """All that the row says."""
        return f"{self.prompt}\n{self.answer}" if self.answer else self.prompt


class Kept(NamedTuple):
    """A sampled row, masked and cut."""

    prompt: str
    answer: str

    @property
    def text(self) -> str:
        """Prompt and answer together."""
        return f"{self.prompt}\n{self.answer}"


class Sample:
    """The distinct rows with the lowest hashes (bottom-k, Cohen and Kaplan 2007): uniform, the same in any order."""

    def __init__(self, size: int = SAMPLE_ROWS) -> None:
        self._size = size
        self._heap: list[tuple[int, Kept]] = []  # the largest hash first
        self._keys: set[int] = set()

    def wants(self, content_id: str) -> bool:
        """Whether a row of this hash would be kept, for now."""
        key = _key(content_id)
        return key not in self._keys and (len(self._heap) < self._size or key < -self._heap[0][0])

    def add(self, look: Look) -> None:
        """One more row."""
        if not self.wants(look.content_id):
            return
        key = _key(look.content_id)
        kept = Kept(look.masked_prompt[:SAMPLE_CHARS], look.masked_answer[:SAMPLE_CHARS])
        self._keys.add(key)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, (-key, kept))
        else:
            self._keys.discard(-heapq.heapreplace(self._heap, (-key, kept))[0])

    def rows(self) -> list[Kept]:
        """The sample, in the order of the hashes, which says nothing about the rows."""
        return [kept for _, kept in sorted(self._heap, key=lambda entry: -entry[0])]


def _key(content_id: str) -> int:
    return int(content_id[16:32], 16)

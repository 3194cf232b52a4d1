"""Exact duplicates: records whose texts (and verdict, where they are judged) equal an earlier record's.

Memory: nine to ten bytes a record. The 64-bit hashes are kept in sorted arrays whose sizes double, the newest in a
small set, so that a file of any length costs no objects; one or two bytes a record more tell that most hashes are in
none of the arrays. In a file of a million records the chance that any two different ones share a hash is three in a
hundred million.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nacre.base.config import Settings
from nacre.data.clean.base import Cleaner, verdict_of

_RECENT = 1 << 14


class Duplicates(Cleaner):
    """Keeps the first of equal records."""

    does: ClassVar[str] = "drops records that equal an earlier one"
    remembers: ClassVar[bool] = True

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self._seen = Seen()

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether the record was there before."""
        return "" if self._seen.add(key_of(texts, verdict_of(record))) else "equals an earlier record"


def key_of(texts: Sequence[str], verdict: bool | None = None) -> int:
    """64 bits of a record's texts and verdict, the same on every machine. White space at the ends does not count."""
    whole = "\x1f".join([text.strip() for text in texts if text]) + ("" if verdict is None else f"\x1f{verdict}")
    return int.from_bytes(blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=8).digest())


class Seen:
    """A set of 64-bit numbers in nine to ten bytes each."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[NDArray[np.uint64]] = []  # sorted; each at least twice as long as the next
        self._marks = bytearray(1)  # a bit for the last digits of each number in the runs

    def __contains__(self, key: int) -> bool:
        if key in self._recent:
            return True
        if not self._marks[(key >> 3) % len(self._marks)] >> (key & 7) & 1:
            return False
        wanted = np.uint64(key)
        for run in self._runs:
            place = run.searchsorted(wanted)
            if place < len(run) and run[place] == wanted:
                return True
        return False

    def add(self, key: int) -> bool:
        """Put a number in; False if it was there."""
        if key in self:
            return False
        self._recent.add(key)
        if len(self._recent) >= _RECENT:
            run = np.fromiter(self._recent, np.uint64, len(self._recent))
            run.sort()
            self._recent.clear()
            while self._runs and len(self._runs[-1]) < 2 * len(run):
                run = np.concatenate((self._runs.pop(), run))
                run.sort(kind="stable")  # two sorted runs one after the other: a merge
            self._runs.append(run)
            self._mark()
        return True

    def _mark(self) -> None:
        """Mark the numbers of the runs, in as many bits as eight to sixteen a number."""
        size = 1 << sum(map(len, self._runs)).bit_length()
        if size == len(self._marks):
            runs = self._runs[-1:]
        else:
            self._marks, runs = bytearray(size), self._runs
        marks = np.frombuffer(self._marks, np.uint8)
        for run in runs:
            bits = np.left_shift(1, run & np.uint64(7), dtype=np.uint64).astype(np.uint8)
            np.bitwise_or.at(marks, (run >> np.uint64(3)) % np.uint64(size), bits)

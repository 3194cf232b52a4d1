"""Which rows stand twice, exactly, in memory that does not grow with their number: the hashes lie on disk, in parts."""

import heapq
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

_RECORD = np.dtype([("hash", "u8"), ("order", "u8"), ("file", "u4"), ("line", "u8")])
_PARTS = 64
_HELD = 1 << 16  # rows before they go to disk

Place = tuple[int, int]
"""The number of a file, and a line in it."""


class Seen:
    """Rows by the hash of what they say, in two groups. Use it in a `with` block, which removes its files.

    64 bits of a SHA-256 stand for a row: among a hundred million rows two different ones are taken for equal with a
    probability of 0.0003.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nacre-")
        self._held: dict[str, list[tuple[int, int, int, int]]] = {}
        self._order = 0

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._folder.cleanup()

    def add(self, group: str, content_id: str, place: Place) -> None:
        """One more row, after the others."""
        held = self._held.setdefault(group, [])
        held.append((int(content_id[:16], 16), self._order, *place))
        self._order += 1
        if len(held) >= _HELD:
            rows = np.array(held, dtype=_RECORD)
            part = (rows["hash"] >> np.uint64(58)).astype(np.int64)
            for number in np.unique(part):
                with self._file(group, int(number)).open("ab") as file:
                    file.write(rows[part == number].tobytes())
            held.clear()

    def repeats(self, group: str, shown: int) -> tuple[int, list[Place]]:
        """How many rows of a group equal an earlier one of it, and the first places of such rows."""
        return _first(shown, (part[_again(part)] for part in self._parts(group)))

    def shared(self, group: str, other: str, shown: int) -> tuple[int, list[Place]]:
        """How many rows of a group equal a row of the other, and the first places of such rows."""
        pairs = zip(self._parts(group), self._parts(other), strict=True)
        return _first(shown, (one[np.isin(one["hash"], two["hash"])] for one, two in pairs))

    def _file(self, group: str, number: int) -> Path:
        return Path(self._folder.name) / f"{group}-{number}"

    def _parts(self, group: str) -> Iterator[np.ndarray]:
        """The rows of a group, those with equal hashes together."""
        held = np.array(self._held.get(group, []), dtype=_RECORD)
        part = (held["hash"] >> np.uint64(58)).astype(np.int64)
        for number in range(_PARTS):
            path = self._file(group, number)
            stored = np.fromfile(path, dtype=_RECORD) if path.is_file() else held[:0]
            yield np.concatenate([stored, held[part == number]])


def _again(rows: np.ndarray) -> np.ndarray:
    """The places of the rows that equal one before."""
    by_hash = np.lexsort((rows["order"], rows["hash"]))
    equal = rows["hash"][by_hash][1:] == rows["hash"][by_hash][:-1]
    again: np.ndarray = by_hash[1:][equal]
    return again


def _first(shown: int, parts: Iterator[np.ndarray]) -> tuple[int, list[Place]]:
    count, first = 0, list[tuple[int, int, int]]()
    for rows in parts:
        count += len(rows)
        found = rows[np.argsort(rows["order"])[:shown]]
        first = heapq.nsmallest(shown, first + [(int(o), int(f), int(n)) for _, o, f, n in found.tolist()])
    return count, [(file, line) for _, file, line in first]

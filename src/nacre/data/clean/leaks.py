"""Rows that stand in a dev set too, of this increment or of any other: what is trained on proves nothing.

A row leaks where its texts equal those of a dev row, or are nearly the same (`near` says how that is told). Dev rows
are compared as they are and as the text steps of the same run would leave them. What is equal does not depend on the
format: the lines of all texts are compared, in whatever columns or messages they stand.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.data.clean.base import Cleaner, record_text
from nacre.data.clean.duplicates import Seen, key_of
from nacre.data.clean.near import PIECE_CHARS, NearIndex
from nacre.data.clean.places import Places, strings
from nacre.data.dataset import ENDINGS
from nacre.data.formats.fields import Unusable
from nacre.data.reader import Reader
from nacre.records import Dropped

_TRACES, _TRACES_KNOWN, _TRACES_ALONE = 24, 3, 11
_MOST_TRACE_CHARS = 64
_SHORT = 4  # a text of fewer pieces one after the other
_SEVERAL = 255  # the tag of a piece of several rows


class LeaksConfig(Settings):
    """Settings of the step `leaks`."""

    dev: tuple[Path, ...] = Field(
        (), description="files of dev rows, and folders, of which every dev file below counts (dev.json, dev.csv.gz, …)"
    )
    threshold: float = Field(0.8, ge=0.5, le=1, description="Jaccard coefficient from which a row is nearly a dev row")


class Leaks(Cleaner):
    """Drops train rows that are dev rows. It needs to be told where those are.

    Attributes:
        known: the texts of dev rows that stand in no file, such as those of a ledger; `prepare` learns them.
    """

    does: ClassVar[str] = "drops rows that a dev set has too, equal or nearly (dev: [dataset])"
    default: ClassVar[bool] = False
    Config = LeaksConfig

    def __init__(self, config: LeaksConfig) -> None:
        super().__init__(config)
        self._dev = config.dev
        self.known: Sequence[Sequence[str]] = ()
        self._equal = Seen()
        self._lines: set[int] = set()  # hashes of all lines of dev rows: most rows are told by the first of theirs
        self._near = NearIndex(config.threshold)
        self._traces = Traces(config.threshold)
        self._rows = self._unread = 0

    def prepare(self, clean: Callable[[str], str]) -> None:
        """Read the dev rows of the settings.

        Raises:
            InputError: no dev row was found, here or by `learn`.
        """
        for path in dev_files(self._dev):
            for texts in texts_in(path):
                if texts is None:
                    self._unread += 1
                else:
                    self.learn(texts, clean)
        for known in self.known:
            self.learn(known, clean)
        if not self._rows:
            where = ", ".join(map(str, self._dev)) or "leaks, key dev"
            raise InputError(
                "there are no dev rows to compare with", where=where, fix="name files, or folders with dev.json"
            )

    def learn(self, texts: Sequence[str], clean: Callable[[str], str] = str) -> None:
        """Take a dev row, given by its texts, from wherever it comes."""
        self._rows += 1
        cleaned = [clean(text) for text in texts]
        for form in (texts, cleaned) if cleaned != list(texts) else (texts,):
            if self._equal.add(_key(form)):
                text = record_text(form)
                self._lines.update(hash(line.strip()) for line in text.split("\n"))
                self._near.add(text)
                self._traces.add(text, self._rows)

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether the record is a dev row."""
        text = record_text(texts)
        if self._has_lines(text) and _key(texts) in self._equal:
            return "equals a dev row"
        similar = self._near.match(text) if self._traces.may_be_like(text) else 0.0
        return f"is {similar:.0%} like a dev row" if similar else ""

    def _has_lines(self, text: str) -> bool:
        """Whether each line of the text is one of some dev row."""
        return all(hash(line.strip()) in self._lines for line in text.split("\n") if line)

    def notes(self) -> list[str]:
        """How many rows it was compared with, and how many could not be."""
        unread = f"leaks: {self._unread} dev rows cannot be read and were not compared with; see nacre data check"
        return [f"leaks: compared with {self._rows} dev rows", *([unread] if self._unread else [])]

    def close(self) -> None:
        """Close the index of dev rows."""
        self._near.close()


def _key(texts: Sequence[str]) -> int:
    """What the texts say, line by line in order of the alphabet: formats put the same in other columns."""
    return key_of(sorted("\n".join(texts).split("\n")))


class Traces:
    """Which longer pieces of text stand in which dev row, roughly: whether a text needs a closer look.

    The pieces are so long that half of a text's are left in a row that agrees with it just at the threshold, were the
    other characters changed here and there (31 characters at 0.8). Of 24 at even distances three must point to one row,
    which the pieces of other rows, even of the same words, hardly do. A text with edits at random is passed over by
    chance about once in three thousand times; a short one, in which a few edits reach every piece, never is.

    Args:
        threshold: Jaccard coefficient of 5-character pieces from which a text is like a row.
    """

    def __init__(self, threshold: float) -> None:
        edits = (1 - threshold) / (1 + threshold) / PIECE_CHARS  # a character; each takes and gives five pieces
        self._chars = min(_MOST_TRACE_CHARS, round(math.log(0.5) / math.log(1 - edits))) if edits else _MOST_TRACE_CHARS
        self._rows: list[tuple[int, bytes]] = []
        self._used = 0  # places of the table
        self._table = bytearray(1 << 16)

    def add(self, text: str, row: int) -> None:
        """Take a text of a dev row; the table stays at least eight times as large as what is in it."""
        tag = row % (_SEVERAL - 1) + 1
        self._rows.append((tag, zlib.compress(text.encode("utf-8", "surrogatepass"), 1)))
        self._put(text, tag)
        if self._used * 8 > len(self._table):
            self._table, self._used = bytearray(1 << (self._used * 16).bit_length()), 0
            for known, packed in self._rows:
                self._put(zlib.decompress(packed).decode("utf-8", "surrogatepass"), known)

    def _put(self, text: str, tag: int) -> None:
        table, mask, chars = self._table, len(self._table) - 1, self._chars
        for start in range(len(text) - chars + 1):
            place = hash(text[start : start + chars]) & mask
            before = table[place]
            if not before:
                table[place] = tag
                self._used += 1
            elif before != tag:
                table[place] = _SEVERAL

    def may_be_like(self, text: str) -> bool:
        """Whether enough of the text's pieces are known, of one row."""
        table, mask, chars = self._table, len(self._table) - 1, self._chars
        if len(text) < _SHORT * chars:
            return True
        starts = range(0, len(text) - chars + 1, (len(text) - chars) // _TRACES)
        votes: dict[int, int] = {}
        several = most = 0
        for place, start in enumerate(starts):
            tag = table[hash(text[start : start + chars]) & mask]
            if tag == _SEVERAL:
                several += 1
            elif tag:
                votes[tag] = votes.get(tag, 0) + 1
                most = max(most, votes[tag])
            elif place >= _TRACES_ALONE and not most and not several:
                return False
            if most + several >= _TRACES_KNOWN:
                return True
        return False


def dev_files(paths: Sequence[Path]) -> list[Path]:
    """The files meant: each file named, and every dev file at any depth below each folder.

    Raises:
        InputError: a folder has none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        below = sorted(file for file in path.rglob("dev.*") if file.name.endswith(ENDINGS))
        if not below:
            raise InputError("the folder has no dev file", where=str(path), fix="name the files, or another folder")
        found += below
    return found


def texts_in(path: Path) -> Iterator[list[str] | None]:
    """The texts of each row of a file; None in the place of a row that cannot be read.

    A row whose columns have names that only a description knows is all its texts.
    """
    places = Places()
    for row in Reader(path):
        if isinstance(row, Dropped):
            yield None
            continue
        try:
            found = places.find(row.value)
        except Unusable:
            found = [place for name in sorted(row.value) for place in strings(row.value, name)]
        texts = [place.holder[place.key] for place in found]
        yield texts if any(texts) else None

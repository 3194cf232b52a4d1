"""Rows that stand in a dev set too, of this increment or of any other: what is trained on proves nothing.

A row leaks where its texts equal those of a dev row, or are nearly the same (`near` says how that is told). Dev rows
are compared as they are and as the text steps of the same run would leave them.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.data.clean.base import Cleaner, record_text
from nacre.data.clean.duplicates import Seen, key_of
from nacre.data.clean.near import NearIndex
from nacre.data.clean.places import Places
from nacre.data.formats.fields import Unusable
from nacre.data.reader import Reader
from nacre.records import Dropped

_TRACES, _TRACES_KNOWN, _TRACE_CHARS = 24, 10, 12
_TRACES_ALONE = 6
_ENDINGS = frozenset({".json", ".jsonl", ".txt"})


class LeaksConfig(Settings):
    """Settings of the step `leaks`."""

    dev: tuple[Path, ...] = Field(
        (), description="files of dev rows, and folders, of which every dev.json, dev.jsonl and dev.txt below counts"
    )
    threshold: float = Field(0.8, ge=0.5, le=1, description="Jaccard coefficient from which a row is nearly a dev row")


class Leaks(Cleaner):
    """Drops train rows that are dev rows. It needs to be told where those are."""

    does: ClassVar[str] = "drops rows that a dev set has too, equal or nearly (dev: [dataset])"
    default: ClassVar[bool] = False
    Config = LeaksConfig

    def __init__(self, config: LeaksConfig) -> None:
        super().__init__(config)
        self._dev = config.dev
        self._equal = Seen()
        self._near = NearIndex(config.threshold)
        self._traces = Traces()
        self._rows = 0

    def prepare(self, clean: Callable[[str], str]) -> None:
        """Read the dev rows of the settings.

        Raises:
            InputError: no dev row was found, here or by `learn`.
        """
        for path in dev_files(self._dev):
            for texts in texts_in(path):
                self.learn(texts, clean)
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
            if self._equal.add(key_of(form)):
                self._near.add(record_text(form))
                self._traces.add(record_text(form))

    def refuse(self, texts: Sequence[str], record: Mapping[str, Any]) -> str:
        """Whether the record is a dev row."""
        if key_of(texts) in self._equal:
            return "equals a dev row"
        text = record_text(texts)
        similar = self._near.match(text) if self._traces.may_be_like(text) else 0.0
        return f"is {similar:.0%} like a dev row" if similar else ""

    def notes(self) -> list[str]:
        """How many rows it was compared with."""
        return [f"leaks: compared with {self._rows} dev rows"]


class Traces:
    """Which pieces of 12 characters stand in any dev row, roughly: whether a text needs a closer look.

    Of a text whose 5-character pieces agree with a dev row's at 0.8, about three quarters of its pieces of 12
    characters stand in that row. Where fewer than ten of 24 are known, or none of the first seven, the text is passed
    over without being sketched; by chance that happens to one such text in a thousand.
    """

    def __init__(self) -> None:
        self._texts: list[bytes] = []
        self._count = 0
        self._table = bytearray(1 << 16)

    def add(self, text: str) -> None:
        """Take a dev row's text; the table stays at least eight times as large as what is in it."""
        self._count += len(text)
        self._texts.append(zlib.compress(text.encode("utf-8", "surrogatepass"), 1))
        if self._count * 8 <= len(self._table):
            self._put(text)
            return
        size = len(self._table)
        while size < self._count * 16:
            size *= 2
        self._table = bytearray(size)
        for packed in self._texts:
            self._put(zlib.decompress(packed).decode("utf-8", "surrogatepass"))

    def _put(self, text: str) -> None:
        table, mask = self._table, len(self._table) - 1
        for start in range(max(1, len(text) - _TRACE_CHARS + 1)):
            table[hash(text[start : start + _TRACE_CHARS]) & mask] = 1

    def may_be_like(self, text: str) -> bool:
        """Whether enough of the text's pieces are known."""
        table, mask = self._table, len(self._table) - 1
        step = max(1, (len(text) - _TRACE_CHARS) // _TRACES)
        starts = range(0, max(1, len(text) - _TRACE_CHARS + 1), step)
        known = 0
        for place, start in enumerate(starts):
            known += table[hash(text[start : start + _TRACE_CHARS]) & mask]
            if place == _TRACES_ALONE and not known:
                return False
        return known * _TRACES >= _TRACES_KNOWN * len(starts)


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
        below = sorted(file for file in path.rglob("dev.*") if file.suffix in _ENDINGS)
        if not below:
            raise InputError("the folder has no dev file", where=str(path), fix="name the files, or another folder")
        found += below
    return found


def texts_in(path: Path) -> Iterator[list[str]]:
    """The texts of each usable row of a file."""
    places = Places()
    for row in Reader(path):
        if isinstance(row, Dropped):
            continue
        try:
            yield [place.holder[place.key] for place in places.find(row.value)]
        except Unusable:
            continue

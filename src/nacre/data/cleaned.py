"""What becomes of records that were cleaned, wherever that was done: into the output, or aside with the reason."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from nacre.base.config import Settings
from nacre.data.clean.places import Place
from nacre.data.dataset_info import Entry
from nacre.data.formats.layout import Columns
from nacre.records import Dropped

_READING = "reading"
_PLAIN = "plain text"


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done, as it can be sent to another machine: see the arguments of `cleaning.clean_files`."""

    steps: Mapping[str, Settings]
    entry: Entry | None
    dev: Sequence[Sequence[str]]
    workers: int | None

    @property
    def columns(self) -> Columns | None:
        """How the description names the columns."""
        return self.entry.layout.columns if self.entry else None


class Output:
    """The two files that come of a run, and its counts. Records are given in the order in which they were read.

    Args:
        clean: where the clean records go, in the layout of the first file; plain text stays so where all files are.
        aside: where the others go.
    """

    def __init__(self, clean: BinaryIO, aside: BinaryIO) -> None:
        self._clean, self._aside = clean, aside
        self._layout = ""
        self.kept = self.dropped = self.unread_rows = self.mended = 0
        self.notes: list[str] = []

    def reads(self, files: Sequence[Path], layouts: Sequence[str]) -> None:
        """The records that follow come from these files, which are laid out so."""
        first = layouts[0]
        self._layout = first if first in ("JSON lines", "JSON array") else "JSON lines"
        if set(layouts) == {_PLAIN}:
            self._layout = _PLAIN
        if (other := next((place for place, one in enumerate(layouts) if one != self._layout), None)) is not None:
            self.notes.append(f"{files[other]}: {layouts[other]} in, {self._layout} out")

    def keep(self, record: Mapping[str, Any], *, mended: bool) -> None:
        """Write a clean record."""
        self._clean.write(_written(record, self._layout, first=self.kept == 0))
        self.kept += 1
        self.mended += mended

    def refused(self, path: Path, line: int, text: str, refused: tuple[str, str]) -> None:
        """Write aside a record that a step drops for a reason, with the text it had in its file."""
        step, reason = refused
        original = text.rstrip("\r\n")
        self._put({"file": str(path), "line": line, "step": step, "reason": reason, "original": original})

    def unread(self, row: Dropped) -> None:
        """Write aside a row that is none, with its bytes where its text does not show them all."""
        self.unread_rows += 1
        found = {"file": row.file, "line": row.line, "step": _READING, "reason": row.reason, "remedy": row.remedy}
        found |= {"original": row.original}
        self._put(found | ({"original_base64": row.original_base64} if row.original_base64 else {}))

    def end(self) -> None:
        """After the last record."""
        if self._layout == "JSON array":
            self._clean.write(b"\n]\n" if self.kept else b"[]\n")
        if not self.kept:
            self.notes.append("no record is left")

    def _put(self, found: Mapping[str, Any]) -> None:
        self.dropped += 1
        self._aside.write(_json(found) + b"\n")


def changed(places: Sequence[Place], before: Sequence[str]) -> bool:
    """Whether any of the texts is another than it was."""
    return any(place.holder[place.key] is not old for place, old in zip(places, before, strict=True))


def _written(record: Mapping[str, Any], layout: str, *, first: bool) -> bytes:
    if layout == "JSON lines":
        return _json(record) + b"\n"
    if layout == "JSON array":
        return (b"[\n" if first else b",\n") + _json(record)
    return str(record.get("text", "")).replace("\n", " ").encode() + b"\n"


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # whole numbers beyond 64 bits, and bytes that were no text
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")

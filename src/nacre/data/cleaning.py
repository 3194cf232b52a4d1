"""`nacre data clean`: the chain over files. One record at a time is in memory; the output has the input's layout."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.files import disk_errors, fsync_folder
from nacre.data.clean.chain import Chain
from nacre.data.clean.places import Places
from nacre.data.dataset_info import Entry
from nacre.data.formats.fields import Unusable
from nacre.data.reader import Reader, Row
from nacre.records import Dropped
from nacre.records.base import Record

_BUFFER_BYTES = 1 << 18
_READING = "reading"


class CleanExample(Record):
    """A text before and after a step, around the first difference; `before` is empty where it was private."""

    line: int
    before: str
    after: str


class CleanStep(Record):
    """What one step did: records and texts changed, records dropped, what was found by kind, a few examples."""

    name: str
    does: str
    records: int
    texts: int
    dropped: int
    found: dict[str, int]
    examples: tuple[CleanExample, ...] = ()


class CleanReport(Record):
    """What a run of the chain did.

    Attributes:
        files: what was read; `out`, where the clean records are; `aside`, where the dropped ones are, if there are any.
        rows: records read; `kept` and `dropped` add up to it. `mended`: records of those kept that a step changed.
        unread: how many of `dropped` could not be read at all, or are in no known format.
    """

    files: tuple[str, ...]
    out: str
    aside: str | None
    rows: int
    kept: int
    mended: int
    dropped: int
    unread: int
    steps: tuple[CleanStep, ...]
    notes: tuple[str, ...] = ()


def clean_files(
    files: Sequence[Path], out: Path, steps: Mapping[str, Settings], *, entry: Entry | None = None
) -> CleanReport:
    """Clean files into one file with the layout of the first: a JSON array, JSON lines or plain text.

    The dropped records go to ``OUT.dropped.jsonl``, readable by the owner alone, each with file, line, step, reason and
    the line as it stood. Both files are whole or not there.

    Args:
        files: what is read, one after another.
        out: where the clean records go.
        steps: names and settings; see `chain.choose`.
        entry: how `dataset_info.json` describes the rows.

    Raises:
        InputError: a file as a whole cannot be used, or a step's settings cannot.
        NacreError: the disk is full or cannot be written.
    """
    if any(path.exists() and out.exists() and path.samefile(out) for path in files):
        raise InputError("the output is the input", where=str(out), fix="name another file with --out")
    chain = Chain(steps)
    chain.prepare()
    aside = out.with_name(f"{out.name}.dropped.jsonl")
    run = _Run(chain, Places(entry))
    with disk_errors(out), _staged(out, 0o644) as clean, _staged(aside, 0o600) as dropped:
        run.over(files, clean, dropped)
    if not run.dropped:
        aside.unlink()
    return CleanReport(
        files=tuple(map(str, files)),
        out=str(out),
        aside=str(aside) if run.dropped else None,
        rows=run.kept + run.dropped,
        kept=run.kept,
        mended=run.mended,
        dropped=run.dropped,
        unread=run.unread,
        steps=tuple(
            CleanStep(
                name=tally.name,
                does=tally.cleaner.does,
                records=tally.records,
                texts=tally.texts,
                dropped=tally.dropped,
                found=dict(tally.cleaner.counts.most_common()),
                examples=tuple(CleanExample(line=line, before=old, after=new) for line, old, new in tally.examples),
            )
            for tally in chain.tallies
        ),
        notes=(*run.notes, *chain.notes()),
    )


class _Run:
    """One pass over the files, with its counts."""

    def __init__(self, chain: Chain, places: Places) -> None:
        self._chain, self._places = chain, places
        self.kept = self.dropped = self.unread = self.mended = 0
        self.notes: list[str] = []

    def over(self, files: Sequence[Path], clean: BinaryIO, dropped: BinaryIO) -> None:
        """Read the files and write both outputs."""
        layout = ""
        for path in files:
            reader = Reader(path)
            layout = layout or self._output_layout(path, reader.layout)
            for row in reader:
                if isinstance(row, Dropped):
                    self.unread += 1
                    self._aside(dropped, row.file, row.line, _READING, f"{row.reason}; {row.remedy}", row.original)
                    continue
                refused = self._cleaned(row)
                if refused is not None:
                    self._aside(dropped, str(path), row.line, *refused, row.text)
                    continue
                clean.write(_written(row.value, layout, first=self.kept == 0))
                self.kept += 1
            self.notes += reader.notes
        if layout == "JSON array":
            clean.write(b"\n]\n" if self.kept else b"[]\n")
        if not self.kept:
            self.notes.append("no record is left")

    def _cleaned(self, row: Row) -> tuple[str, str] | None:
        try:
            places = self._places.find(row.value)
        except Unusable as problem:
            self.unread += 1
            return _READING, f"{problem.reason}; {problem.remedy}"
        before = [place.holder[place.key] for place in places]
        refused = self._chain.clean(row.value, places, row.line)
        if refused is None:
            self.mended += any(place.holder[place.key] is not old for place, old in zip(places, before, strict=True))
        return refused

    def _output_layout(self, path: Path, layout: str) -> str:
        if layout in ("JSON lines", "JSON array", "plain text"):
            return layout
        self.notes.append(f"{path}: {layout} in, JSON lines out")
        return "JSON lines"

    def _aside(self, file: BinaryIO, name: str, line: int, step: str, reason: str, original: str) -> None:
        self.dropped += 1
        found = {"file": name, "line": line, "step": step, "reason": reason, "original": original.rstrip("\r\n")}
        file.write(_json(found) + b"\n")


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


@contextmanager
def _staged(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends well, and disappears when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=_BUFFER_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)

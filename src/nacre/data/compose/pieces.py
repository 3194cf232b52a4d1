"""Rows on their way from files to another file, each with where it came from.

A row that is only moved is written as it stood; one that was changed, or that `dataset_info.json` describes, is
written in the simplest layout that says it. Beside it stand its origin's columns, which are read back as
`Origin.extra` and so go on into every snapshot: `origin_file`, `origin_line`, and what was done to it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.data.all_dev import row_of
from nacre.data.convert import SHORT_CHARS, Stream
from nacre.data.curriculum import dataset_of
from nacre.data.dataset import DatasetFiles, Split, at_path, resolve, split_names
from nacre.data.written import lines_to
from nacre.records import Dropped, Example, Origin

ORIGIN_FILE, ORIGIN_LINE = "origin_file", "origin_line"
DEMONSTRATIONS = "demonstrations"
Extra = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Piece:
    """A row: its example, and the record it was read from where that can be written again as it stood."""

    example: Example
    raw: Mapping[str, Any] | None = None

    def marked(self, **extra: str | int | float) -> "Piece":
        """The same row with more said about its origin."""
        origin = self.example.origin
        example = self.example.model_copy(update={"origin": origin.model_copy(update={"extra": origin.extra | extra})})
        return replace(self, example=example)

    def column(self, name: str) -> Any:
        """What a column says beside what is trained on; None where the row has none of that name."""
        if self.raw is not None and name in self.raw:
            return self.raw[name]
        return self.example.origin.extra.get(name)


@dataclass
class Pieces:
    """Rows that were read, those that could not be used, and what is to be said about it."""

    rows: list[Piece] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_pieces(name: str, dataset_dir: Path, split: Split = "train") -> Pieces:
    """The rows of datasets by name (see `nacre.data.dataset.resolve`), or of files by path, whose rows are train rows.

    Raises:
        InputError: there is no such dataset, a file as a whole cannot be used, or there are no train rows.
    """
    found = Pieces()
    for part in split_names(name):
        files = at_path(Path(part)) if Path(part).is_file() else None
        _read(files or resolve(part, dataset_dir), split, found)
    if not found.rows and split == "train":
        raise InputError("no row can be used", where=name, fix="nacre data check says what is wrong with each")
    return found


def _read(files: DatasetFiles, split: Split, found: Pieces) -> None:
    for path in files.train if split == "train" else files.dev:
        stream = Stream(path, task=files.task, entry=files.entry)
        for one in stream:
            if isinstance(one, Dropped):
                found.dropped.append(one)
            else:
                row, example = one
                found.rows.append(Piece(_traced(example), row.value if files.entry is None else None))
        found.notes += stream.notes


def _traced(example: Example) -> Example:
    """The example with the place it stood at; one that was composed before keeps the first place it came from."""
    origin = example.origin
    path = Path(origin.file)
    named = f"{path.parent.name}/{path.name}" if path.parent.name else path.name
    here = {ORIGIN_FILE: named if len(named) <= SHORT_CHARS else path.name[-SHORT_CHARS:], ORIGIN_LINE: origin.line}
    return example.model_copy(update={"origin": origin.model_copy(update={"extra": here | origin.extra})})


def as_record(piece: Piece) -> dict[str, Any]:
    """The row as it is written."""
    raw = row_of(piece.example) if piece.raw is None else dict(piece.raw)
    extra = {name: value for name, value in piece.example.origin.extra.items() if name not in raw}
    return raw | extra


def changed(piece: Piece, example: Example, **extra: str | int | float) -> Piece:
    """A row that says something else now, with what was done to it beside its origin."""
    return Piece(example).marked(**piece.example.origin.extra, **extra)


def made(example: Example, **extra: str | int | float) -> Piece:
    """A row that nobody wrote into a file before."""
    return Piece(example.model_copy(update={"origin": Origin(extra=dict(extra))}))


def write_pieces(path: Path, pieces: Iterable[Piece]) -> int:
    """Write rows as JSON lines, whole or not at all; returns how many.

    Raises:
        NacreError: the disk is full or cannot be written.
    """
    return write_records(path, (as_record(piece) for piece in pieces))


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Write objects as JSON lines, whole or not at all; returns how many."""
    count = 0
    with lines_to(path) as write:
        for record in records:
            write(_json(record))
            count += 1
    return count


def dropped_note(dropped: Sequence[Dropped]) -> list[str]:
    """A sentence about rows that could not be used; none where there are none."""
    if not dropped:
        return []
    first = dropped[0]
    said = f"{len(dropped)} rows cannot be used and are left out, the first in {first.file}, line {first.line}"
    return [f"{said}: {first.reason}; nacre data check names all"]


def text_of(row: Example) -> str:
    """All that a row says, as one text to compare it with others by."""
    turns = (*row.prompt, *row.answers)
    return "\n".join(([row.system] if row.system else []) + [turn.content for turn in turns])


def question_of(row: Example) -> str:
    """All that a row asks: system text and prompt."""
    return "\n".join(([row.system] if row.system else []) + [turn.content for turn in row.prompt])


def place_of(row: Example) -> tuple[str | int | float, ...] | None:
    """Where a row, or the one that it was made from, stood first; None where that is not known, and for plain text,
    of which many pieces stand in one place."""
    extra = row.origin.extra
    if row.kind == "text" or ORIGIN_FILE not in extra:
        return None
    return dataset_of(row), extra.get("source", ""), extra[ORIGIN_FILE], extra.get(ORIGIN_LINE, 0)


def _json(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can say
        return json.dumps(value, default=str)
    return text

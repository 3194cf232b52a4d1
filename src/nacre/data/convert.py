"""One file to examples: each row by its own format, each row that cannot be used with its reason."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError, nearest
from nacre.data.dataset_info import Entry
from nacre.data.formats import formats
from nacre.data.formats.fields import Unusable
from nacre.data.formats.layout import Format
from nacre.data.reader import Reader
from nacre.records import Dropped, Example, Origin

_SHOWN_COLUMNS = 8
_SHORT_CHARS = 64  # longer texts of unused columns are not carried along


@dataclass
class FileRows:
    """What one file held.

    Attributes:
        path: the file; `sha256` of the bytes that were read from it.
        formats: number of usable rows per format; `encodings` has the one of the file.
    """

    path: Path
    sha256: str = ""
    examples: list[Example] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def read_examples(
    path: Path, *, task: str = "", entry: Entry | None = None, task_column: str | None = None
) -> FileRows:
    """Read a file's rows as examples.

    Args:
        path: the file.
        task: written into each example's origin.
        entry: how `dataset_info.json` describes the rows; without it each row is told by its content.
        task_column: a column that names the task of a row, instead of `task`.

    Raises:
        InputError: the file as a whole cannot be used, or has none of a column that `entry` names.
    """
    reader = Reader(path)
    found = FileRows(path, encodings=Counter({reader.encoding.label: 1}))
    tell = _Teller(entry)
    unused: Counter[str] = Counter()
    columns: set[str] = set()
    for row in reader:
        if isinstance(row, Dropped):
            found.dropped.append(row)
            continue
        columns |= row.value.keys()
        try:
            name, form = tell.format_of(row.value)
            example = form.read(row.value)
        except Unusable as problem:
            found.dropped.append(reader.dropped(row.line, problem.reason, problem.remedy, row.text))
            continue
        beside = row.value.keys() - form.used(row.value) - {task_column}
        unused.update(beside)
        found.formats[name] += 1
        named = str(row.value.get(task_column, task)) if task_column else task
        origin = Origin(file=str(path), line=row.line, task=named, extra=_short(row.value, beside))
        found.examples.append(example.model_copy(update={"origin": origin}))
    if not found.examples and not found.dropped:
        raise InputError("the file holds no rows", where=str(path), fix="write or copy it again")
    if entry is not None and columns:
        _check_named(path, entry, columns)
    found.sha256 = reader.sha256
    found.notes = [*reader.notes, *_notes(path, found.formats, unused)]
    return found


def _short(record: Mapping[str, Any], columns: Iterable[str]) -> dict[str, str | int | float]:
    """The columns that nothing is read from but may sort the rows: numbers and short texts."""
    values = {name: record[name] for name in sorted(columns)}
    return {
        name: value
        for name, value in values.items()
        if (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
        or (isinstance(value, str) and 0 < len(value) <= _SHORT_CHARS)
    }


class _Teller:
    """Tells which format a row is in."""

    def __init__(self, entry: Entry | None) -> None:
        self._described = (entry.format_name, entry.reader()) if entry else None
        self._known: list[tuple[str, Format]] = [(name, formats.load(name)()) for name in formats.names()]

    def format_of(self, record: Mapping[str, Any]) -> tuple[str, Format]:
        """Name and reader of the row's format.

        Raises:
            Unusable: no format has such columns.
        """
        if self._described:
            return self._described
        for name, form in self._known:
            if form.looks_like(record):
                return name, form
        raise _unknown(record)


def _unknown(record: Mapping[str, Any]) -> Unusable:
    if not record:
        return Unusable("the row is an empty object", "delete it")
    if all(isinstance(value, dict) for value in record.values()):
        return Unusable("the row is an object of objects", "write the rows as a list, or one a line")
    names = [str(name) for name in record]
    shown = ", ".join(names[:_SHOWN_COLUMNS]) + (", …" if len(names) > _SHOWN_COLUMNS else "")
    known = ("instruction", "input", "output", "messages", "conversations", "text", "chosen", "rejected")
    close = {name: match for name in names if (match := nearest(name, known))}
    if close:
        hint = "rename " + ", ".join(f"'{name}' to '{match}'" for name, match in close.items())
    else:
        hint = "rename them to instruction, input and output, or name them under columns in dataset_info.json"
    return Unusable(f"unknown columns: {shown}", hint)


def _check_named(path: Path, entry: Entry, columns: set[str]) -> None:
    """A column that the description names must be in the file: a misspelt one would silently be empty."""
    if entry.columns is None:
        return
    for what, name in entry.columns.named.items():
        if name not in columns:
            close = nearest(name, columns)
            hint = f"did you mean '{close}'? " if close else ""
            listed = ", ".join(sorted(columns))
            fix = f'{hint}Correct "{what}" in dataset_info.json; the file has: {listed}'
            raise InputError(f"no row has the column '{name}' that is named as {what}", where=str(path), fix=fix)


def _notes(path: Path, counts: Counter[str], unused: Counter[str]) -> list[str]:
    notes = []
    if len(counts) > 1:
        notes.append(
            f"{path}: rows in several formats: " + ", ".join(f"{name} {n}" for name, n in counts.most_common())
        )
    if unused:
        shown = ", ".join(f"{name} ({rows} rows)" for name, rows in unused.most_common(_SHOWN_COLUMNS))
        more = f" and {len(unused) - _SHOWN_COLUMNS} more" if len(unused) > _SHOWN_COLUMNS else ""
        notes.append(f"{path}: columns that are not used: {shown}{more}")
    return notes

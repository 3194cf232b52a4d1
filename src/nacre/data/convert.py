"""One file to examples: each row by its own format, each row that cannot be used with its reason."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError, nearest
from nacre.data.chunks import Chunker, Documents
from nacre.data.dataset_info import Entry
from nacre.data.formats import formats
from nacre.data.formats.fields import Unusable
from nacre.data.formats.layout import Format, wanted
from nacre.data.reader import Mender, Reader, Row
from nacre.records import Dropped, Example, Origin

_SHOWN_COLUMNS = 8
_MOST_COLUMNS = 10_000  # names that are remembered, however many the rows make up
_LARGEST = 2.0**63  # larger numbers, infinity and NaN are no measure of a row
SHORT_CHARS = 64  # longer texts of unused columns are not carried along


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
    stream = Stream(path, task=task, entry=entry, task_column=task_column)
    found = FileRows(path)
    for one in stream:
        if isinstance(one, Dropped):
            found.dropped.append(one)
        else:
            found.examples.append(one[1])
    found.sha256, found.notes = stream.sha256, stream.notes
    found.formats, found.encodings = stream.formats, stream.encodings
    return found


class Stream:
    """A file's rows one after another, each beside its example, or with the reason why it is none.

    Iterate over it once; `sha256`, `notes`, `formats` (usable rows of each) and `encodings` are complete then. The
    arguments are those of `read_examples`; `mender`, `documents` and `streamed` are those of `Reader`.

    Raises:
        InputError: while reading, as `read_examples`.
    """

    def __init__(
        self,
        path: Path,
        *,
        task: str = "",
        entry: Entry | None = None,
        task_column: str | None = None,
        mender: Mender | None = None,
        documents: Documents | None = None,
        streamed: bool = False,
    ) -> None:
        self.path, self._task, self._entry, self._task_column = path, task, entry, task_column
        chunk = entry.chunk if entry else None
        self._chunker = Chunker(chunk) if chunk else None
        documents = documents or (chunk.documents if chunk else "line")
        columns = entry.layout.columns if entry else None
        self._reader = Reader(path, columns=columns, mender=mender, documents=documents, streamed=streamed)
        self.formats: Counter[str] = Counter()
        self.encodings = Counter({self._reader.encoding.label: 1})
        self.notes: list[str] = []
        self.sha256 = ""
        self._unused: Counter[str] = Counter()
        self._perhaps_judged = 0

    def __iter__(self) -> Iterator[tuple[Row, Example] | Dropped]:
        tell = _Teller(self._entry)
        columns: set[str] = set()
        empty = True
        for row in self._reader:
            empty = False
            if isinstance(row, Dropped):
                yield row
                continue
            if len(columns) < _MOST_COLUMNS:
                columns |= row.value.keys()
            try:
                name, form = tell.format_of(row.value)
                example = self._placed(row, form.read(row.value), form)
            except Unusable as problem:
                yield self._reader.dropped(row.line, problem.reason, problem.remedy, row.text)
                continue
            self.formats[name] += 1
            for piece in self._chunker.examples(example) if self._chunker else (example,):
                yield row, piece
        if empty:
            raise InputError("the file holds no rows", where=str(self.path), fix="write or copy it again")
        if self._entry is not None and columns:
            _check_named(self.path, self._entry, columns)
        self.sha256 = self._reader.sha256
        self.notes = [*self._reader.notes, *_notes(self.path, self.formats, self._unused)]
        if self._perhaps_judged:
            said = f"{self._perhaps_judged} rows have a label of 0 or 1, taken for a class and not for a judgement"
            self.notes.append(f"{self.path}: {said}; write true or false if it says whether the answer is wanted (KTO)")
        self.notes += self._chunker.notes(str(self.path)) if self._chunker else []

    def _placed(self, row: Row, example: Example, form: Format) -> Example:
        """The example with its origin."""
        beside = row.value.keys() - form.used(row.value) - {self._task_column}
        if len(self._unused) < _MOST_COLUMNS:
            self._unused.update(beside)
        if "label" in beside and example.kind == "sft" and wanted(row.value["label"]) is not None:
            self._perhaps_judged += 1
        task = str(row.value.get(self._task_column, self._task)) if self._task_column else self._task
        origin = Origin(file=str(self.path), line=row.line, task=task, extra=_short(row.value, beside))
        return example.model_copy(update={"origin": origin})


def _short(record: Mapping[str, Any], columns: Iterable[str]) -> dict[str, str | int | float]:
    """The columns that nothing is read from but may sort the rows: numbers and short texts."""
    values = {name: record[name] for name in sorted(columns)}
    return {
        name: value
        for name, value in values.items()
        if (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST)
        or (isinstance(value, str) and 0 < len(value) <= SHORT_CHARS)
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
    rows = next((name for name, value in record.items() if _are_rows(value)), None)
    if rows is not None:
        return Unusable(f"the rows are a list under the key '{rows}'", "give that list alone as the file")
    names = [str(name) for name in record]
    shown = ", ".join(names[:_SHOWN_COLUMNS]) + (", …" if len(names) > _SHOWN_COLUMNS else "")
    known = ("instruction", "input", "output", "messages", "conversations", "text", "chosen", "rejected")
    close = {name: match for name in names if (match := nearest(name, known))}
    if close:
        hint = "rename " + ", ".join(f"'{name}' to '{match}'" for name, match in close.items())
    else:
        hint = "rename them to instruction, input and output, or name them under columns in dataset_info.json"
    return Unusable(f"unknown columns: {shown}", hint)


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


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

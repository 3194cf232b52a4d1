"""Rows out of a table in text (CSV, TSV): its delimiter and its quoting are told by the text itself."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nacre.base.errors import InputError
from nacre.data.source import KEPT_CHARS, MAX_ROW_CHARS, Line, Lines
from nacre.data.strict import Malformed, loads

csv.field_size_limit(MAX_ROW_CHARS)  # for the whole process: the module has no other place for it, and 128 KiB is short

_OBJECTS = frozenset(
    {"history", "messages", "conversations", "chosen", "rejected", "tools", "images", "videos", "audios"}
)
_FLAG_COLUMNS = frozenset({"label", "kto_tag"})
KNOWN_COLUMNS = (
    _OBJECTS
    | _FLAG_COLUMNS
    | {"instruction", "input", "output", "prompt", "answer", "completion", "response", "system", "text"}
)
_FLAGS = {"true": True, "false": False}
_DELIMITERS = ",\t;|"
_HEAD_CHARS, _HEAD_ROWS = 1 << 16, 200
_MOST_LINES = 1000  # of one row: a quote that is never closed must not take the rest of the file with it
_NAME_CHARS = 64
_EQUAL_SHARE, _KNOWN_SHARE = 0.8, 0.5  # of the rows as wide as the header, for it to be one
_NO_HEADER = "add a first line with the names of the columns, e.g. instruction,output"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table is written: the names of its columns, and what stands between and around its fields."""

    header: tuple[str, ...]
    delimiter: str
    quote: str = '"'
    escape: str | None = None

    @property
    def said(self) -> str:
        """The same in words."""
        name = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}.get(self.delimiter, self.delimiter)
        return f"a table of {len(self.header)} columns between {name}"

    def parse(self, lines: Iterator[str]) -> list[str]:
        """The fields of the first row.

        Raises:
            csv.Error: it is no row of such a table.
        """
        return next(_reader(lines, self.delimiter, self.quote, self.escape, strict=True))


@dataclass(frozen=True, slots=True)
class Cells:
    """One row of a table: the line it begins on, its columns, and its text; or the reason why there are none."""

    line: int
    value: dict[str, Any]
    text: str
    beyond: int = 0
    reason: str = ""
    remedy: str = ""


def table_dialect(head: str, where: str, *, prose: bool) -> Dialect | None:
    """How the table is written whose first part this is; None where it is no table.

    Args:
        head: the beginning of a text that is no JSON.
        where: the file, for the message.
        prose: whether it may well be plain text, so that every column must have a name that is known.

    Raises:
        InputError: a table without a line that names its columns, or that names one twice.
    """
    start = head.lstrip("\ufeff\r\n")[:_HEAD_CHARS]
    named = re.match(r"sep=(.)\r?\n", start)
    delimiters = named[1] if named else _DELIMITERS
    quote, escape = _quoting(start)
    found = [(*_width(start[named.end() if named else 0 :], d, quote, escape), d) for d in delimiters]
    share, header, delimiter = max(found, key=lambda one: _evidence(one[0], _names(one[1])))
    names = _names(header)
    known = KNOWN_COLUMNS.intersection(names)
    certain = len(names) > 1 and len(known) == len(names)  # whatever the rows below look like
    if not certain and (prose or (len(names) < 2 and names != ("text",))):
        return None
    if not certain and share < (_KNOWN_SHARE if known else _EQUAL_SHARE):
        return None
    _check_header(names, where, known=bool(known))
    return Dialect(names, delimiter, quote, escape)


def _names(header: Sequence[str]) -> tuple[str, ...]:
    """The names in the first line, without empty ones at its end."""
    names = tuple(name.strip() for name in header)
    while names and not names[-1]:
        names = names[:-1]
    return names


def _evidence(share: float, names: Sequence[str]) -> tuple[bool, float, int]:
    """How much speaks for a delimiter: names that are known, equal widths, many columns."""
    return len(names) > 1 and KNOWN_COLUMNS.issuperset(names), share if len(names) > 1 else 0, len(names)


def table_rows(lines: Lines, dialect: Dialect, objects: frozenset[str], flags: frozenset[str]) -> Iterator[Cells]:
    """The rows below the header. A row that is none costs its first line only; the lines after it are read again.

    Args:
        lines: the whole text.
        dialect: how it is written.
        objects: columns beside the customary ones whose fields are JSON where they look like it.
        flags: columns beside the customary ones that say true or false.
    """
    below = False
    for line in lines:
        if not line.text.strip() or (not below and line.text.startswith("sep=")):
            continue
        taken, fields, fault = _fields(line, lines, dialect)
        if not below and not fault:
            below = True  # the header itself
            continue
        text, beyond = "".join(part.text for part in taken).rstrip("\n"), taken[-1].beyond
        while len(fields) > len(dialect.header) and not fields[-1]:
            fields = fields[:-1]
        if not fault and len(fields) != len(dialect.header):
            lines.put_back(taken[1:])
            text = line.text.rstrip("\n")
            reason = f"the row has {len(fields)} fields, the header {len(dialect.header)}"
            fault = (
                reason,
                f"put a field that holds {dialect.delimiter!r}, a quote or a line break into double quotes",
            )
        if fault:
            yield Cells(line.number, {}, text, beyond, *fault)
            continue
        try:
            value = _typed(dict(zip(dialect.header, fields, strict=True)), _OBJECTS | objects, _FLAG_COLUMNS | flags)
        except Malformed as problem:
            yield Cells(line.number, {}, text, beyond, problem.reason, problem.remedy)
        else:
            yield Cells(line.number, value, text)


def _fields(first: Line, lines: Lines, dialect: Dialect) -> tuple[list[Line], list[str], tuple[str, str] | None]:
    """The lines of one row, its fields, and what is wrong with it."""
    if first.beyond:
        return [first], [], (f"the line is longer than {MAX_ROW_CHARS:,} characters", "shorten it, or delete it")
    taken = [first]

    def feed() -> Iterator[str]:
        yield first.text
        held = len(first.text)
        for line in lines:
            taken.append(line)
            held += len(line.text)
            if len(taken) > _MOST_LINES or held > KEPT_CHARS or line.beyond:
                return
            yield line.text

    try:
        fields = dialect.parse(feed())
    except csv.Error:
        lines.put_back(taken[1:])
        return (
            [first],
            [],
            ("a quote is not closed, or more text follows it", f"double each {dialect.quote} in a field"),
        )
    text = "".join(line.text for line in taken)
    fault = None
    if "\0" in text:
        fault = ("a raw control character in a text", "delete it")
    elif any("\ud800" <= character <= "\udfff" for character in text if character > "\ud7ff"):
        fault = ("bytes that are not valid in the file's encoding", "save the file as UTF-8, or delete the row")
    return taken, fields, fault


def _typed(record: dict[str, Any], objects: frozenset[str], flags: frozenset[str]) -> dict[str, Any]:
    """Lists and objects out of their JSON text, true and false out of their words; empty ones are absent."""
    for name in objects.intersection(record):
        value = record[name].strip()
        if not value:
            record[name] = None
        elif value[0] in "[{":
            try:
                record[name] = loads(value)
            except Malformed as problem:
                raise Malformed(f"column '{name}': {problem.reason}", problem.remedy) from None
    for name in flags.intersection(record):
        record[name] = _FLAGS.get(record[name].strip().lower(), record[name])
    return record


def _width(start: str, delimiter: str, quote: str, escape: str | None) -> tuple[float, list[str]]:
    """The share of rows as wide as the first one, and the first one."""
    rows: list[list[str]] = []
    try:
        for row in _reader(iter(io.StringIO(start, newline="")), delimiter, quote, escape, strict=False):
            if row:
                rows.append(row)
            if len(rows) > _HEAD_ROWS:
                break
    except csv.Error:
        return 0.0, []
    if len(start) == _HEAD_CHARS and len(rows) > 1:
        rows.pop()  # the head may end in the middle of it
    if not rows:
        return 0.0, []
    below = rows[1:]
    width = len(rows[0])
    return (sum(len(row) == width for row in below) / len(below) if below else 1.0), rows[0]


def _reader(
    lines: Iterator[str], delimiter: str, quote: str, escape: str | None, *, strict: bool
) -> Iterator[list[str]]:
    return csv.reader(
        lines, delimiter=delimiter, quotechar=quote, escapechar=escape, doublequote=escape is None, strict=strict
    )


def _quoting(start: str) -> tuple[str, str | None]:
    single = len(re.findall(r"(?m)(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|]|\r?$)", start))
    if single > start.count("\n") / 2 and not re.search(r'(?m)(?:^|[,;\t|])"', start):
        return "'", None
    fields_double = re.search(r'[^,;\t|\n]""', start)
    escaped = re.search(r'\\"(?![,;\t|"\r\n]|$)', start)  # a field may as well end in a backslash
    return '"', "\\" if escaped and not fields_double else None


def _check_header(names: Sequence[str], where: str, *, known: bool) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if known and twice is not None:
        raise InputError(f"the table names the column '{twice}' twice", where=f"{where}, line 1", fix="rename one")
    data = [
        name for name in names if not name or len(name) > _NAME_CHARS or re.search(r"[.?!。？！]$|^[\d.,-]+$", name)
    ]
    if not known and (twice is not None or data):
        shown = (data[0] if data else twice or "")[:_NAME_CHARS]
        what = f"this table does not name its columns: its first line holds {shown!r}, which is no name"
        raise InputError(what, where=f"{where}, line 1", fix=_NO_HEADER)

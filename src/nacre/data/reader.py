"""Rows out of a file, one after another, each with its line; what cannot be read is explained and passed over."""

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from nacre.base.plugins import Table
from nacre.data.chunks import Documents
from nacre.data.encoding import BAD_BYTES, CHUNK_BYTES, PARQUET, open_bytes, sniff
from nacre.data.formats.layout import Columns
from nacre.data.laid_out import COMMENTS, WRAPPER, is_object, layout
from nacre.data.packed import Gunzip
from nacre.data.source import KEPT_CHARS, MAX_ROW_CHARS, Hashed, Line, Lines, Window
from nacre.data.strict import Malformed, loads, loads_all
from nacre.data.tables import table_rows
from nacre.records import Dropped

ORIGINAL_CHARS = 4000  # of a row that was dropped, shown as text for the user to find it again
KEPT_BYTES = 1 << 26  # of the bytes of all rows of a file that text cannot show
_JOINED_LINES = 1000  # of one row whose texts run on over the ends of lines
_BAD_BYTE = re.compile("[\ud800-\udfff]")
_MARKED = re.compile("[\udc00-\udcff]")
_RUNS = re.compile("[\udc00-\udcff]+|[^\udc00-\udcff]+")
_NO_COLUMNS = Columns()
_BINARY = Table("binary", {"Parquet": "nacre.data.parquet:parquet_rows"})  # imported when such a file is read


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the 1-based line it begins on (in Parquet its number), what it holds, and its text."""

    line: int
    value: dict[str, Any]
    text: str


class Mender(Protocol):
    """Reads text that is no JSON as what it can only mean."""

    def mend(self, line: int, text: str) -> list[Any] | None:
        """The values in the text, or None where there is not one right answer. Remembers what it changed."""
        ...


class Reader:
    """Reads one file. Iterate over it once; `sha256` and `notes` are complete when the iteration is.

    JSON arrays, JSON lines, single or pretty-printed objects, tables (CSV, TSV), Parquet and (for ``.txt``) plain text
    are told apart by what is in the file, whatever its name ends in; any of them but Parquet may be in a gzip file.
    Memory holds one row (of at most 32 million characters) or one megabyte, whichever is more.

    Args:
        path: the file.
        columns: how `dataset_info.json` names the columns, which a table must know to read lists out of its fields.
        documents: what is one row of plain text: a line, a paragraph (blank lines lie between), the whole file.
        mender: is asked for what text that is no JSON can only mean; without it such rows are dropped.
        streamed: the caller lets each row go before it asks for the next one, so every row that cannot be used has its
            bytes (of a row that is cut short, none: `original` has its beginning). Otherwise only as many rows have
            theirs as come to 64 MiB.

    Raises:
        InputError: the file as a whole holds no rows; the message says what it holds instead.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Columns | None = None,
        mender: Mender | None = None,
        documents: Documents = "line",
        streamed: bool = False,
    ) -> None:
        self.path = path
        self.encoding = sniff(path)
        self.notes: list[str] = []
        if self.encoding.converted:
            self.notes.append(f"{path}: read as {self.encoding.label} and converted to UTF-8")
        if self.encoding.packed:
            self.notes.append(f"{path}: unpacked from gzip while it is read")
        self.layout, self.dialect = layout(path, self.encoding)
        if self.dialect is not None:
            self.notes.append(f"{path}: read as {self.dialect.said}")
        self.sha256 = ""
        self._columns, self._mender, self._documents = columns or _NO_COLUMNS, mender, documents
        self._streamed = streamed
        self._shared_lines, self._kept_bytes, self._unkept = 0, 0, 0
        self._line_break = "\n"

    def __iter__(self) -> Iterator[Row | Dropped]:
        with open_bytes(self.path) as file:
            hashed = Hashed(file)
            yield from self._table() if self.encoding == PARQUET else self._text(hashed)
            while hashed.read(CHUNK_BYTES):
                pass
            self.sha256 = hashed.sha256.hexdigest()
        if self._shared_lines:
            self.notes.append(f"{self.path}: {self._shared_lines} lines hold several objects each; all were read")
        if self._unkept:
            said = f"{self._unkept} rows that cannot be used are kept in part: their bytes are in the file itself alone"
            self.notes.append(f"{self.path}: {said}")

    def dropped(self, line: int, reason: str, remedy: str, original: str, beyond: int = 0) -> Dropped:
        """The record of one row of this file that could not be used; `beyond` characters follow on `original`."""
        original = original.strip("\r\n")
        shown = _BAD_BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", original)
        more = max(0, len(shown) - ORIGINAL_CHARS) + beyond
        exact = shown == original and not more and not self.encoding.converted and self._line_break == "\n"
        if more:
            shown = f"{shown[:ORIGINAL_CHARS]}… ({more} more characters)"
        whole = "" if exact else self._whole(original, beyond)
        return Dropped(
            file=str(self.path), line=line, reason=reason, remedy=remedy, original=shown, original_base64=whole
        )

    def _whole(self, original: str, beyond: int) -> str:
        """The row's bytes as they stand in the file, in base64; empty where they are too many to keep."""
        if beyond or (self._kept_bytes > KEPT_BYTES and not self._streamed):
            self._unkept += 1
            return ""
        text = original if self._line_break == "\n" else original.replace("\n", self._line_break)
        codec = self.encoding.part or "utf-8"
        # apart, because a codec of two bytes a character takes no single byte back
        runs = ((run[0], _MARKED.match(run[0])) for run in _RUNS.finditer(text))
        data = b"".join(bytes(ord(mark) - 0xDC00 for mark in run) if bad else run.encode(codec) for run, bad in runs)
        self._kept_bytes += len(data)
        return base64.b64encode(data).decode()

    def _text(self, hashed: Hashed) -> Iterator[Row | Dropped]:
        packed = Gunzip(hashed, self.path) if self.encoding.packed else None
        source = io.BufferedReader(packed or hashed, CHUNK_BYTES)
        with io.TextIOWrapper(source, encoding=self.encoding.codec, errors=BAD_BYTES) as text:
            line = 0
            plain = self._plain if self._documents == "line" else self._long
            engines = {"JSON lines": self._lines, "plain text": plain, "table": self._cells}
            for row in engines.get(self.layout, self._values)(text):
                line = row.line
                if isinstance(text.newlines, str):
                    self._line_break = text.newlines
                yield row
            while text.read(CHUNK_BYTES):
                pass
            if packed and packed.problem:
                yield self.dropped(line, f"{packed.problem}, after this line", "copy or write the file again", "")

    def _row(self, line: int, value: Any, text: str) -> Row | Dropped:
        if isinstance(value, dict):
            return Row(line, value, text)
        kind = {"list": "a list", "str": "a text", "NoneType": "null", "bool": "true or false"}
        found = kind.get(type(value).__name__, "a number")
        return self.dropped(line, f"the row is {found}, not an object", 'write {"column": value, …}', text)

    def _lines(self, text: TextIO) -> Iterator[Row | Dropped]:
        lines = Lines(text)
        for line in lines:
            if line.beyond:
                yield self._too_long(line)
            elif content := line.text.lstrip("\ufeff").strip():  # files that were put together bring marks along
                try:
                    yield self._row(line.number, loads(content), line.text)
                except Malformed as problem:
                    yield from self._several(line, problem, lines)

    def _several(self, line: Line, problem: Malformed, lines: Lines) -> Iterator[Row | Dropped]:
        """Objects with no line break between them are read all the same; anything else is mended or dropped."""
        try:
            values = loads_all(line.text.strip())
        except Malformed:
            found = self._joined(line, problem, lines)
            if found is None:
                yield self.dropped(line.number, problem.reason, problem.remedy, line.text)
            else:
                text, values = found
                for value in values:
                    yield self._row(line.number, value, text)
            return
        self._shared_lines += 1
        for value in values:
            yield self._row(line.number, value, line.text)

    def _joined(self, first: Line, problem: Malformed, lines: Lines) -> tuple[str, list[Any]] | None:
        """The values of a line that is mended, with as many of the lines after it as its text runs on over."""
        if self._mender is None:
            return None
        if (values := self._mender.mend(first.number, first.text)) is not None:
            return first.text, values
        taken: list[Line] = []
        text = first.text
        goes_on = problem.unfinished and first.text.lstrip().startswith("{")
        while goes_on and len(taken) < _JOINED_LINES and len(text) < KEPT_CHARS and (line := next(lines, None)):
            taken.append(line)
            if line.beyond or line.text.startswith(("{", "[")) or is_object(line.text):
                break
            text += line.text
            if line.text.rstrip().endswith(("}", "},")):
                values = self._mender.mend(first.number, text)
                if values is not None:
                    return text, values
        lines.put_back(taken)
        return None

    def _too_long(self, line: Line) -> Dropped:
        reason = f"the line is longer than {MAX_ROW_CHARS:,} characters"
        return self.dropped(line.number, reason, "write one row a line", line.text, line.beyond)

    def _plain(self, text: TextIO) -> Iterator[Row | Dropped]:
        for line in Lines(text):
            content = line.text.rstrip("\n")
            if line.beyond:
                yield self._too_long(line)
            elif not content or content.isspace():
                continue
            elif _BAD_BYTE.search(content):
                reason = "the line has bytes that are not valid in the file's encoding"
                yield self.dropped(line.number, reason, "save the file as UTF-8, or delete the line", content)
            else:
                yield Row(line.number, {"text": content}, content)

    def _long(self, text: TextIO) -> Iterator[Row | Dropped]:
        """Paragraphs, or the whole text."""
        held: list[str] = []
        start, chars, beyond = 0, 0, 0
        for line in Lines(text):
            blank = line.text.isspace()
            if held and blank and self._documents == "paragraph":
                yield self._document(start, "".join(held), beyond)
                held, chars, beyond = [], 0, 0
            if not held and blank:
                continue
            start = start if held else line.number
            beyond += line.beyond
            if chars > MAX_ROW_CHARS:
                beyond += len(line.text)
                continue
            held.append(line.text)
            chars += len(line.text)
        if held:
            yield self._document(start, "".join(held), beyond)

    def _document(self, line: int, text: str, beyond: int) -> Row | Dropped:
        content = text.strip("\n")
        if beyond:
            reason = f"the text is longer than {MAX_ROW_CHARS:,} characters"
            return self.dropped(line, reason, "divide it, or read it by lines", text[:KEPT_CHARS], beyond)
        if _BAD_BYTE.search(content):
            reason = "the text has bytes that are not valid in the file's encoding"
            return self.dropped(line, reason, "save the file as UTF-8, or delete the bytes", content)
        return Row(line, {"text": content}, content)

    def _cells(self, text: TextIO) -> Iterator[Row | Dropped]:
        assert self.dialect is not None
        named = self._columns.named
        objects = {name for what, name in named.items() if what not in ("prompt", "query", "response", "system")}
        flags = {self._columns.kto_tag} - {None}
        for cells in table_rows(Lines(text), self.dialect, frozenset(objects - flags), frozenset(map(str, flags))):
            if cells.reason:
                yield self.dropped(cells.line, cells.reason, cells.remedy, cells.text, cells.beyond)
            else:
                yield Row(cells.line, cells.value, cells.text)

    def _table(self) -> Iterator[Row | Dropped]:
        for number, value in _BINARY.load("Parquet")(self.path, self.notes.append):
            if value is None:
                yield self.dropped(number, "a text of the row is not valid UTF-8", "write it again as UTF-8", "")
            else:
                yield Row(number, value, json.dumps(value, ensure_ascii=False))

    def _values(self, text: TextIO) -> Iterator[Row | Dropped]:
        window = Window(text)
        window.more()
        closes, cut = self.layout == "JSON array", False
        if above := COMMENTS.match(window.text):
            window.advance(above.end())
            self.notes.append(f"{self.path}: a comment above the data was passed over")
        wrapper = WRAPPER.match(window.text, window.position) if closes else None
        if wrapper:
            window.advance(wrapper.end() - window.position)
            self.notes.append(f"{self.path}: the rows are a list under the key '{wrapper[1]}'")
        elif closes:
            window.advance(window.text.index("[", window.position) + 1 - window.position)
        while window.skip(" \t\r\n,\ufeff"):
            if closes and window.at("]"):
                if not wrapper:  # the other keys of an object around the array are no rows
                    yield from self._after_array(window)
                return
            line = window.line
            try:
                value, original = window.decode()
            except Malformed as problem:
                cut = problem.unfinished
                yield from self._passed_over(line, problem, window)
            else:
                yield self._row(line, value, original)
        if closes and not cut:
            reason = "the array is not closed: the file was cut off after the row before this line"
            yield self.dropped(window.line, reason, "copy or write the file again", "")

    def _passed_over(self, line: int, problem: Malformed, window: Window) -> Iterator[Row | Dropped]:
        passed = window.pass_over()
        text = passed.text.rstrip(", \t\n")
        values = self._mender.mend(line, text) if self._mender and not passed.beyond else None
        if values is None:
            yield self.dropped(line, problem.reason, problem.remedy, text, passed.beyond)
        for value in values or ():
            yield self._row(line, value, text)

    def _after_array(self, window: Window) -> Iterator[Dropped]:
        window.advance(1)
        if window.skip(" \t\r\n"):
            line, rest = window.line, window.rest()
            reason, remedy = "text after the end of the array", "delete it, or put its rows into the array"
            yield self.dropped(line, reason, remedy, rest.text, rest.beyond)

"""Rows out of a file, one after another, each with its line; what cannot be read is explained and passed over."""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from nacre.base.errors import InputError
from nacre.data.encoding import BAD_BYTES, CHUNK_BYTES, open_bytes, sniff
from nacre.data.strict import Malformed, decode, loads, loads_all
from nacre.records import Dropped

Layout = Literal["JSON lines", "JSON array", "JSON objects", "plain text"]

ORIGINAL_CHARS = 4000  # of a row that was dropped, kept for the user to find it again
_HEAD_LINES = 20
_INDENT_CHARS = 200
_WRAPPER = re.compile(r'\s*\{\s*"(data|rows|train|examples|records|items|instances)"\s*:\s*\[(?=\s*\{)')
_BAD_BYTE = re.compile("[\ud800-\udfff]")
_BRACKETS = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]]')


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the 1-based line it begins on, what it holds, and its text."""

    line: int
    value: dict[str, Any]
    text: str


class Reader:
    """Reads one file. Iterate over it once; `sha256` and `notes` are complete when the iteration is.

    JSON arrays, JSON lines, single or pretty-printed objects and (for ``.txt``) plain text are told apart
    by what is in the file, whatever its name ends in. Memory holds one row or one megabyte, whichever is more.

    Args:
        path: the file.

    Raises:
        InputError: the file as a whole holds no rows; the message says what it holds instead.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.encoding = sniff(path)
        self.notes: list[str] = []
        if self.encoding.converted:
            self.notes.append(f"{path}: read as {self.encoding.label} and converted to UTF-8")
        self.layout = _layout(path, self.encoding.head)
        self.sha256 = ""
        self._shared_lines = 0

    def __iter__(self) -> Iterator[Row | Dropped]:
        with open_bytes(self.path) as file:
            hashed = _Hashed(file)
            with io.TextIOWrapper(
                io.BufferedReader(hashed, CHUNK_BYTES), encoding=self.encoding.codec, errors=BAD_BYTES
            ) as text:
                yield from self._engine()(text)
                while text.read(CHUNK_BYTES):
                    pass
            self.sha256 = hashed.sha256.hexdigest()
        if self._shared_lines:
            self.notes.append(f"{self.path}: {self._shared_lines} lines hold several objects each; all were read")

    def dropped(self, line: int, reason: str, remedy: str, original: str) -> Dropped:
        """The record of one row of this file that could not be used."""
        shown = _BAD_BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", original.strip())
        if len(shown) > ORIGINAL_CHARS:
            shown = f"{shown[:ORIGINAL_CHARS]}… ({len(shown) - ORIGINAL_CHARS} more characters)"
        return Dropped(file=str(self.path), line=line, reason=reason, remedy=remedy, original=shown)

    def _engine(self) -> Callable[[TextIO], Iterator[Row | Dropped]]:
        return {"JSON lines": self._lines, "plain text": self._plain}.get(self.layout, self._values)

    def _row(self, line: int, value: Any, text: str) -> Row | Dropped:
        if isinstance(value, dict):
            return Row(line, value, text)
        kind = {"list": "a list", "str": "a text", "NoneType": "null", "bool": "true or false"}
        found = kind.get(type(value).__name__, "a number")
        return self.dropped(line, f"the row is {found}, not an object", 'write {"column": value, …}', text)

    def _lines(self, text: TextIO) -> Iterator[Row | Dropped]:
        for number, line in enumerate(text, 1):
            if line.isspace():
                continue
            try:
                yield self._row(number, loads(line), line)
            except Malformed as problem:
                yield from self._several(number, line, problem)

    def _several(self, number: int, line: str, problem: Malformed) -> Iterator[Row | Dropped]:
        """Objects with no line break between them are read all the same; anything else is dropped."""
        try:
            values = loads_all(line.strip())
        except Malformed:
            yield self.dropped(number, problem.reason, problem.remedy, line)
            return
        self._shared_lines += 1
        for value in values:
            yield self._row(number, value, line)

    def _plain(self, text: TextIO) -> Iterator[Row | Dropped]:
        for number, line in enumerate(text, 1):
            if line.isspace():
                continue
            content = line.rstrip("\n")
            try:
                content.encode()
            except UnicodeEncodeError:
                reason = "the line has bytes that are not valid in the file's encoding"
                yield self.dropped(number, reason, "save the file as UTF-8, or delete the line", line)
            else:
                yield Row(number, {"text": content}, content)

    def _values(self, text: TextIO) -> Iterator[Row | Dropped]:
        window = _Window(text)
        window.more()
        closes, cut = self.layout == "JSON array", False
        wrapper = _WRAPPER.match(window.text) if closes else None
        if wrapper:
            window.advance(wrapper.end())
            self.notes.append(f"{self.path}: the rows are a list under the key '{wrapper[1]}'")
        elif closes:
            window.advance(window.text.index("[") + 1)
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
                yield self.dropped(line, problem.reason, problem.remedy, window.pass_over().rstrip(", \t\n"))
            else:
                yield self._row(line, value, original)
        if closes and not cut:
            reason = "the array is not closed: the file was cut off after the row before this line"
            yield self.dropped(window.line, reason, "copy or write the file again", "")

    def _after_array(self, window: "_Window") -> Iterator[Dropped]:
        window.advance(1)
        if window.skip(" \t\r\n"):
            line, rest = window.line, window.rest()
            yield self.dropped(
                line, "text after the end of the array", "delete it, or put its rows into the array", rest
            )


class _Hashed(io.RawIOBase):
    """A binary file that hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.sha256.update(data)
        return len(data)


class _Window:
    """The part of a text that is being decoded; grows at the end and forgets at the front."""

    def __init__(self, source: TextIO) -> None:
        self._source, self._ended = source, False
        self.text, self.position, self.line = "", 0, 1

    def more(self) -> bool:
        """Read on, at least as much again as is held, so that retries stay linear. False at the end."""
        if self._ended:
            return False
        # the beginning of the current line is kept: its indentation tells where the next row begins
        start = self.text.rfind("\n", max(0, self.position - _INDENT_CHARS), self.position)
        start = self.position if start < 0 else start
        piece = self._source.read(max(CHUNK_BYTES, len(self.text) - start))
        self._ended = not piece
        self.text, self.position = self.text[start:] + piece, self.position - start
        return bool(piece)

    def advance(self, count: int) -> None:
        """Move forward, counting lines."""
        self.line += self.text.count("\n", self.position, self.position + count)
        self.position += count

    def skip(self, characters: str) -> bool:
        """Move over these characters; False when nothing else is left."""
        while True:
            start = self.position
            while start < len(self.text) and self.text[start] in characters:
                start += 1
            self.advance(start - self.position)
            if start < len(self.text):
                return True
            if not self.more():
                return False

    def at(self, character: str) -> bool:
        """Whether this character is next."""
        return self.text.startswith(character, self.position)

    def decode(self) -> tuple[Any, str]:
        """The value that begins here and its text; moves past it."""
        while True:
            try:
                value, end = decode(self.text, self.position)
            except Malformed as problem:
                if problem.unfinished and self.more():
                    continue
                raise
            original = self.text[self.position : end]
            self.advance(end - self.position)
            return value, original

    def pass_over(self) -> str:
        """Move to where the next row most likely begins; returns what was passed over.

        First by layout: the next line that opens a bracket as deep as this row's line, or closes one less
        deep. Then by brackets, where the row is otherwise whole. Else nothing of the rest can be trusted.
        """
        indent = self._indent()
        while True:
            end = None if indent is None else self._next_line(indent)
            end = end or self._balanced()
            if end is not None:
                passed = self.text[self.position : end]
                self.advance(end - self.position)
                return passed
            if not self.more():
                return self.rest()

    def rest(self) -> str:
        """Everything that is left."""
        while self.more():
            pass
        passed = self.text[self.position :]
        self.advance(len(passed))
        return passed

    def _indent(self) -> str | None:
        before = self.text[self.text.rfind("\n", 0, self.position) + 1 : self.position]
        return before if not before.strip() and self.position > len(before) else None

    def _next_line(self, indent: str) -> int | None:
        pattern = re.compile(rf"\n(?:{indent}\{{|[ \t]{{0,{len(indent)}}}\])")
        found = pattern.search(self.text, self.position + 1)
        return found.start() if found else None

    def _balanced(self) -> int | None:
        depth = 0
        for token in _BRACKETS.finditer(self.text, self.position):
            bracket = token[0]
            depth += (bracket in "{[") - (bracket in "}]")
            if depth <= 0 and bracket in "}]":
                follows = self.text[token.end() : token.end() + 200].lstrip()
                return token.end() if follows[:1] in (",", "]") else None
        return None


def _layout(path: Path, head: str) -> Layout:
    """Tell how the rows are laid out from the first part of the text."""
    start = head.lstrip("\ufeff \t\r\n")
    lines = [line for line in re.split(r"\r\n|\r|\n", start) if line.strip()][:_HEAD_LINES]
    whole = [line for line in lines if line.startswith("{") and _is_object(line)]
    if _WRAPPER.match(head) and len(whole) <= 1:
        return "JSON array"
    if path.suffix == ".txt" and not whole and not _opens_json(start):
        return "plain text"
    if start.startswith("["):
        return "JSON array"
    if whole or (start.startswith("{") and len(lines) == 1):
        return "JSON lines"
    if start.startswith("{"):
        return "JSON objects"
    raise _no_json(path, lines)


def _opens_json(start: str) -> bool:
    return re.match(r'\{\s*"|\[\s*[{\]]', start) is not None


def _is_object(line: str) -> bool:
    try:
        return isinstance(loads(line), dict)
    except Malformed:
        return False


def _no_json(path: Path, lines: list[str]) -> InputError:
    commas = [line.count(",") for line in lines]
    if len(lines) > 1 and commas[0] and commas.count(commas[0]) > len(lines) / 2:
        fix = "write one JSON object a line, e.g. pandas.read_csv(F).to_json(G, orient='records', lines=True)"
        return InputError("this looks like a CSV table, not JSON", where=f"{path}, line 1", fix=fix)
    shown = lines[0][:60] if lines else ""
    fix = 'write one {"instruction": …, "output": …} a line, or name a file of plain text .txt'
    return InputError(f"this is not JSON: it begins with {shown!r}", where=f"{path}, line 1", fix=fix)

"""The text of a file as it is read: its bytes hashed on the way, line by line or through a window that moves on."""

import hashlib
import io
import re
from collections import deque
from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple, TextIO

from nacre.data.encoding import CHUNK_BYTES
from nacre.data.strict import Malformed, decode

MAX_ROW_CHARS = 1 << 25  # a row that is longer is taken for one whose end is missing, and is never held whole
KEPT_CHARS = 1 << 22  # of a row that cannot be used
_INDENT_CHARS = 200
_BRACKETS = re.compile(r'"(?:[^"\\\n]++|\\.)*+"|[{}\[\]]')  # possessive: a text without an end costs no memory


class Hashed(io.RawIOBase):
    """A binary file that hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read on."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.sha256.update(data)
        return len(data)


class Line(NamedTuple):
    """One line with its line break; `beyond` counts the characters that it has more than can be held."""

    number: int
    text: str
    beyond: int = 0


class Lines:
    """The lines of a text, numbered from 1. A line that was taken can be put back."""

    def __init__(self, source: TextIO) -> None:
        self._source, self._back, self._number = source, deque[Line](), 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> Line:
        if self._back:
            return self._back.popleft()
        text = self._source.readline(MAX_ROW_CHARS)
        if not text:
            raise StopIteration
        self._number += 1
        if len(text) < MAX_ROW_CHARS or text.endswith("\n"):
            return Line(self._number, text)
        head, beyond = text[:KEPT_CHARS], len(text) - KEPT_CHARS
        while text and not text.endswith("\n"):
            text = self._source.readline(CHUNK_BYTES)
            beyond += len(text)
        return Line(self._number, head, beyond)

    def put_back(self, lines: Iterable[Line]) -> None:
        """These lines come again, in this order."""
        self._back.extendleft(reversed(list(lines)))


class Passed(NamedTuple):
    """Text that was passed over: its beginning, and how many characters follow that are not held."""

    text: str
    beyond: int = 0


class Window:
    """The part of a text that is being decoded; grows at the end and forgets at the front."""

    def __init__(self, source: TextIO) -> None:
        self._source, self._ended, self._forgotten = source, False, 0
        self.text, self.position, self.line = "", 0, 1

    def more(self) -> bool:
        """Read on, at least as much again as is held, so that retries stay linear. False at the end."""
        if self._ended:
            return False
        # the beginning of the current line is kept: its indentation tells where the next row begins
        start = self.text.rfind("\n", max(0, self.position - _INDENT_CHARS), self.position)
        start = self.position if start < 0 else start
        piece = self._source.read(max(CHUNK_BYTES, len(self.text) - start))
        self._ended, self._forgotten = not piece, self._forgotten + start
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
                if not problem.unfinished:
                    raise
                if self._too_long():
                    reason = f"the row does not end within {MAX_ROW_CHARS:,} characters"
                    raise Malformed(reason, "close its quote or bracket, or shorten it", unfinished=True) from None
                if self.more():
                    continue
                raise
            original = self.text[self.position : end]
            self.advance(end - self.position)
            return value, original

    def pass_over(self) -> Passed:
        """Move to where the next row most likely begins; returns what was passed over.

        First by layout: the next line that opens a bracket as deep as this row's line, or closes one less
        deep. Then by brackets, where the row is otherwise whole. Else nothing of the rest can be trusted.
        """
        indent = self._indent()
        passed = Passed("")
        while True:
            end = None if indent is None else self._next_line(indent)
            end = end or (self._balanced() if not passed.beyond else None)
            if end is not None:
                return self._take(passed, end - self.position)
            if self._too_long():  # what was looked through is let go, but for a line's beginning
                passed = self._take(passed, len(self.text) - self.position - _INDENT_CHARS)
            if not self.more():
                return self._take(passed, len(self.text) - self.position)

    def rest(self) -> Passed:
        """Everything that is left."""
        passed = self._take(Passed(""), len(self.text) - self.position)
        while self.more():
            passed = self._take(passed, len(self.text) - self.position)
        return passed

    def _too_long(self) -> bool:
        return len(self.text) - self.position > MAX_ROW_CHARS

    def _take(self, before: Passed, count: int) -> Passed:
        text = self.text[self.position : self.position + count]
        self.advance(count)
        room = 0 if before.beyond else max(0, KEPT_CHARS - len(before.text))
        return Passed(before.text + text[:room], before.beyond + len(text[room:]))

    def _indent(self) -> str | None:
        before = self.text[self.text.rfind("\n", 0, self.position) + 1 : self.position]
        begins = self.position > len(before) or not self._forgotten
        return before if begins and not before.strip() else None

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

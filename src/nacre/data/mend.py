"""Text that is nearly JSON, read as the one thing it can mean; where it can mean two things, it is left alone.

Mended are: text in single quotes, Python's None, True and False, NaN and its like (to null), keys without quotes,
commas too many at an end, a comma missing before a key or between objects, comments, and line breaks and tabs that
stand raw in a text. Not mended, because there is no one right answer: a key that stands twice, a quote inside a text
that is not escaped, a backslash that begins no escape, half a character, bytes that are no text, a number too large,
and a row that is cut off.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

SINGLE_QUOTES = "text in single quotes was put into double quotes"
PYTHON = "None, True or False was written as null, true or false"
NOT_A_NUMBER = "NaN, Infinity or undefined was written as null"
BARE_KEY = "a key without quotes was put into quotes"
COMMA_TOO_MANY = "a comma before a closing bracket or after the row was deleted"
COMMA_MISSING = "a missing comma was added"
COMMENT = "a comment was deleted"
ONE_LINE = "objects on one line, with a comma between them, were put on lines of their own"
RAW_BREAK = "a raw line break or tab in a text was escaped"

_DEPTH = 200
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.+-])")
_WORD = re.compile(r"-?[A-Za-z_$][\w$]*")
_ESCAPE = re.compile(r"""\\(?:(["'\\/bfnrt])|u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))""")
_PLAIN = {quote: re.compile(rf"[^{quote}\\\x00-\x1f\ud800-\udfff]+") for quote in "\"'"}
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[str, tuple[Any, str | None]] = {
    "true": (True, None),
    "false": (False, None),
    "null": (None, None),
    "True": (True, PYTHON),
    "False": (False, PYTHON),
    "None": (None, PYTHON),
    **dict.fromkeys(("NaN", "nan", "-NaN", "Infinity", "-Infinity", "inf", "-inf", "undefined"), (None, NOT_A_NUMBER)),
}


class Repair(NamedTuple):
    """What was changed in the row that begins on a line."""

    line: int
    changes: tuple[str, ...]


class Unclear(Exception):
    """The text has no one right reading."""


class Mending:
    """Mends one file's rows and hands on what was changed, row by row."""

    def __init__(self, told: Callable[[Repair], None]) -> None:
        self._told = told

    def mend(self, line: int, text: str) -> list[Any] | None:
        """The values in the text, none for a comment alone; None where it has no one right reading."""
        parser = _Parser(text)
        try:
            values = parser.values()
        except Unclear:
            return None
        self._told(Repair(line, tuple(parser.changes)))
        return values


class _Parser:
    """A reader of one row's text that goes on where JSON's would stop, and counts what it passed over."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.changes: Counter[str] = Counter()

    def values(self) -> list[Any]:
        """All values in the text."""
        found: list[Any] = []
        self._space()
        while self._at < len(self._text):
            found.append(self._value(0))
            self._space()
            if self._is(","):
                self._at += 1
                self._space()
                self.changes[COMMA_TOO_MANY if self._at == len(self._text) else ONE_LINE] += 1
            elif self._at < len(self._text) and not self._is("{"):
                raise Unclear
        return found

    def _is(self, character: str) -> bool:
        return self._text.startswith(character, self._at)

    def _space(self) -> bool:
        """Move over white space and comments; whether there was any."""
        start = self._at
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            found = _COMMENT.match(self._text, self._at)
            if not found:
                return self._at > start
            self.changes[COMMENT] += 1
            self._at = found.end()

    def _value(self, depth: int) -> Any:
        if depth > _DEPTH:
            raise Unclear
        character = self._text[self._at : self._at + 1]
        if character == "{":
            return self._object(depth)
        if character == "[":
            return self._list(depth)
        if character in ('"', "'"):
            return self._string()
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            return self._number(number[0])
        if (word := _WORD.match(self._text, self._at)) and word[0] in _WORDS:
            value, change = _WORDS[word[0]]
            self._at = word.end()
            if change:
                self.changes[change] += 1
            return value
        raise Unclear

    def _number(self, text: str) -> int | float:
        if not set(text) & set(".eE"):
            if len(text) > 4000:
                raise Unclear
            return int(text)
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise Unclear
        return value

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._at += 1
        self._space()
        while not self._is("}"):
            key = self._key()
            if key in found:
                raise Unclear
            self._space()
            if not self._is(":"):
                raise Unclear
            self._at += 1
            self._space()
            found[key] = self._value(depth + 1)
            self._between("}")
        self._at += 1
        return found

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self._at += 1
        self._space()
        while not self._is("]"):
            found.append(self._value(depth + 1))
            self._between("]")
        self._at += 1
        return found

    def _key(self) -> str:
        if self._is('"') or self._is("'"):
            return self._string()
        word = _WORD.match(self._text, self._at)
        if not word or word[0].startswith("-"):
            raise Unclear
        self._at = word.end()
        self.changes[BARE_KEY] += 1
        return word[0]

    def _between(self, closing: str) -> None:
        """Move over the comma between two items, too many before the bracket or left out."""
        apart = self._space()
        if self._is(","):
            self._at += 1
            self._space()
            if self._is(closing):
                self.changes[COMMA_TOO_MANY] += 1
        elif not self._is(closing):
            # two texts side by side in a list may be one text; in an object the second must be a key
            if not apart or (closing == "]" and not (self._is("{") or self._is("["))):
                raise Unclear
            self.changes[COMMA_MISSING] += 1

    def _string(self) -> str:
        quote = self._text[self._at]
        if quote == "'":
            self.changes[SINGLE_QUOTES] += 1
        self._at += 1
        parts: list[str] = []
        while not self._is(quote):
            if plain := _PLAIN[quote].match(self._text, self._at):
                parts.append(plain[0])
                self._at = plain.end()
            elif self._text[self._at : self._at + 1] in ("\n", "\r", "\t"):
                parts.append(self._text[self._at])
                self.changes[RAW_BREAK] += 1
                self._at += 1
            else:
                parts.append(self._escape(python=quote == "'"))
        self._at += 1
        text = "".join(parts)
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:  # half of a character
            raise Unclear from None

    def _escape(self, *, python: bool) -> str:
        found = _ESCAPE.match(self._text, self._at)
        if not found or (found[3] and not python):
            raise Unclear
        self._at = found.end()
        if found[1]:
            return _ESCAPED.get(found[1], found[1])
        return chr(int(found[2] or found[3], 16))

"""JSON as the standard has it (RFC 8259): no NaN, no key twice, no half character; and a reason for each refusal."""

import json
import re
from typing import Any

import orjson


class Malformed(Exception):
    """Text that is no JSON: why, what would mend it, and whether the text may only be too short."""

    def __init__(self, reason: str, remedy: str, *, unfinished: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.remedy, self.unfinished = reason, remedy, unfinished


_KEY_END = re.compile(r'"\s*:')
_AS_ZEROS, _LONG_NUMBER = bytes.maketrans(b"123456789", b"0" * 9), b"0" * 19
_UTF8 = "save the file as UTF-8, or delete the row"
_PYTHON = "this is Python, not JSON: write the rows with json.dump"


def loads(text: str) -> Any:
    """One JSON value. Fast when it is sound; the slow decoder is asked only to explain.

    Raises:
        Malformed: not JSON, or JSON that means different things to different readers.
    """
    # orjson reads whole numbers beyond 64 bits as floats; looked for in bytes, which is twenty times faster
    if _LONG_NUMBER in text.encode("utf-8", "surrogatepass").translate(_AS_ZEROS):
        return _only(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _only(text)
    # Every key ends in a quote and a colon; texts may hold the same pair, but never hide one. Equal
    # numbers therefore prove that no key was given twice; unequal ones are looked at slowly.
    if len(_KEY_END.findall(text)) != _count_keys(value):
        return _only(text)
    return value


def loads_all(text: str) -> list[Any]:
    """The JSON values that stand one after another in `text`.

    Raises:
        Malformed: as for `loads`.
    """
    values, position = [], 0
    while position < len(text):
        value, position = decode(text, position)
        values.append(value)
        while text[position : position + 1].isspace():
            position += 1
    return values


def decode(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at `start` (where no white space stands) and the position after it.

    Raises:
        Malformed: `unfinished` when more text might complete the value.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _explain(text, start, error) from None
    except RecursionError:
        raise Malformed("brackets are nested too deeply", "flatten the row") from None
    except ValueError as error:
        raise Malformed(f"a number cannot be read: {error}", "shorten it or write it as text") from None
    _refuse_half_characters(text[start:end], value)
    return value, end


def _only(text: str) -> Any:
    position = len(text) - len(text.lstrip())
    value, end = decode(text, position)
    rest = text[end:].strip()
    if rest.startswith(("//", "/*", "#")):
        raise Malformed("a comment stands in the data", "JSON has no comments: delete it")
    if rest:
        raise Malformed(f"more text follows on the line: {rest[:20]}", "write one object a line and nothing after it")
    return value


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_count_keys(item) for item in value.values() if isinstance(item, dict | list))
    if isinstance(value, list):
        return sum(_count_keys(item) for item in value if isinstance(item, dict | list))
    return 0


def _refuse_half_characters(text: str, value: Any) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        raise Malformed(f"byte 0x{byte:02X} is not valid in the file's encoding", _UTF8) from None
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Malformed(
                "an escape such as \\ud83d is half of a character", "write both halves, or neither"
            ) from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Malformed(f"the key '{twice}' stands twice in one object", "keep one of the two")
    return found


def _constant(name: str) -> Any:
    raise Malformed(f"{name} is no JSON value", "write null or a number")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Malformed(f"the number {text} is too large", "write a smaller number, or write it as text")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)

# What json says, which character it stopped at (a pattern), the reason and the remedy; the first that fits.
_REASONS: tuple[tuple[str, str, str, str], ...] = (
    ("", r"//|/\*|#", "a comment stands in the data", "JSON has no comments: delete it"),
    ("", r"'", "text in single quotes", _PYTHON),
    ("", r"None\b|True\b|False\b", "None, True or False in Python's spelling", _PYTHON),
    ("", r"u?nan\b|undefined\b|inf\b", "a value that JSON does not have", "write null or a number"),
    ("", r"…|\.\.\.", "dots instead of data", "give the whole row"),
    ("Expecting property name", r"\}", "a comma before the closing bracket", "delete that comma"),
    ("Expecting property name", r"", "a key without double quotes", "write keys in double quotes"),
    ("Expecting value", r"[\]}]", "a comma before the closing bracket, or a value left out", "delete the comma"),
    ("Expecting value", r"", "a value that is no JSON", "write text in double quotes"),
    (
        "Expecting ',' delimiter",
        r"",
        "a comma is missing, or a quote inside a text is not escaped",
        'write \\" in texts',
    ),
    ("Expecting ':' delimiter", r"", "a colon is missing after a key", "write the key, a colon and its value"),
    ("Invalid control character", r"\n|\r", "a text runs on over the end of its line", "write \\n for a line break"),
    ("Invalid control character", r"", "a raw control character in a text", "write it as an escape such as \\t"),
    ("Invalid \\", r"", "a backslash that begins no escape", "write \\\\ for a backslash"),
)


def _explain(text: str, start: int, error: json.JSONDecodeError) -> Malformed:
    _refuse_half_characters(text[error.pos : error.pos + 1], None)
    if error.msg.startswith("Unterminated string") or not text[error.pos :].strip():
        return Malformed("the row is cut off: it ends before it is complete", "copy or write it again", unfinished=True)
    place = f" (at character {error.pos - start + 1} of the row)"
    for message, pattern, reason, remedy in _REASONS:
        if error.msg.startswith(message) and re.match(pattern, text[error.pos : error.pos + 16]):
            # a value may go on where the text at hand ends, e.g. "tru" or "\u00"
            return Malformed(reason + place, remedy, unfinished=error.pos + 16 > len(text))
    return Malformed(f"not valid JSON: {error.msg}{place}", "correct the row", unfinished=False)

"""Which patterns of a JSON schema xgrammar reads as ECMA-262 does, and which keep an answer JSON.

And patterns for the formats that it reads too widely: it knows no calendar, lets leap seconds and leading zeros
through, knows no longest host name, and writes what is no JSON into quoted e-mail names.
"""

import re

_PIECE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"  # an escape
    r"|\[\^?"  # a class opens
    r"|\((?:\?(?:P?<(?![=!])|:)?)?"  # a group opens, with a name or none; a bare (? is anything else
    r"|.",
    re.DOTALL,
)
_PART = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)|\[(?:\\.|[^\]\\])*\]|\((?:\?(?:P?<\w+>|:))?|[?*+]\??"
    r"|\{(?P<low>\d{1,6})(?P<comma>,)?(?P<high>\d{1,6})?\}\??|.",
    re.DOTALL,
)
_GROUPS = frozenset("(|")
_LONGEST = 4096  # characters
_MOST = 128  # the highest count that xgrammar takes; it spends seconds on one of thousands before it fails
_CONTROLS = {"\\t": 9, "\\n": 10, "\\v": 11, "\\f": 12, "\\r": 13, "\\0": 0}
_SETS = frozenset({"\\d", "\\D", "\\w", "\\W", "\\s", "\\S"})
_WIDE = frozenset({"\\D", "\\W", "\\S"})  # all that is not ASCII is in them
_ESCAPED_IN_JSON = frozenset({ord('"'), ord("\\")})  # xgrammar would write them bare, and end the text
_LAST = 0xFFFF  # of the characters that four digits of an escape can name
_MANY = -1  # stands for the characters of a set
_UNKNOWN = -2

_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"  # years, but for 0000
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}(?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"


def _label(most: int) -> str:
    """A part of a host's name, of so many characters at most, without the ``--`` of ``xn--``."""
    one = "[A-Za-z0-9]"
    return f"{one}(?:-?{one}(?:-?{one}(?:[A-Za-z0-9-]{{0,{most - 6}}}{one})?)?)?"


PATTERNS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "ipv4": rf"^{_BYTE}(?:\.{_BYTE}){{3}}$",
    "email": rf"^[A-Za-z0-9_+-]{{1,40}}(?:\.[A-Za-z0-9_+-]{{1,20}})?@{_label(22)}(?:\.{_label(22)}){{1,3}}$",
    "hostname": rf"^{_label(32)}(?:\.{_label(32)}){{0,5}}$",
}
_SPACES = r"\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"  # those that are not ASCII
_NO_SPACES = (
    r"!-~\u007f-\u009f\u00a1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u2fff"
    r"\u3001-\ud7ff\ue000-\ufefe\uff00-\uffff"
)
_SPELT = {  # by the class that is open, and the piece
    ("", "."): r"[^\u2028\u2029]",
    ("", "\\S"): rf"[^\s{_SPACES}]",
    ("[^", "\\s"): rf"\s{_SPACES}\s",
    ("[", "\\S"): _NO_SPACES,
}


def why_not(pattern: object) -> str:
    """Why an answer held to this pattern might not fit it or might be no JSON; empty where it is held."""
    if not isinstance(pattern, str):
        return "is no text"
    if len(pattern) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    if any(ord(character) > _LAST for character in pattern):
        return "has a character beyond U+FFFF, which is not supported"
    depth = 0
    inside: list[str] | None = None  # characters and sets of the class that is open
    negated = False
    for found in _PIECE.finditer(pattern):
        piece = found[0]
        if inside is not None and piece != "]":
            inside += [piece] if piece[0] == "\\" else piece
        elif inside is not None:
            if not _fits(inside, negated):
                return "has a class of characters that cannot be written"
            inside = None
        elif piece[0] == "[":
            inside, negated = [], piece == "[^"
        else:
            depth += {"(": 1, ")": -1}.get(piece[0], 0)
            reason = _outside(piece, depth == 0 and _at_an_end(pattern, found.start(), piece))
            if reason:
                return reason
    return ""


def _outside(piece: str, at_an_end: bool) -> str:
    """Why not, for a piece that is in no class."""
    if piece == "(?":
        return "looks ahead or behind, or sets flags"
    if piece in ("^", "$"):
        return "" if at_an_end else f"has {piece} in its middle"
    return "" if piece[0] == "(" or _plain(_code(piece)) else f"has {piece!r}, which is not supported"


def _at_an_end(pattern: str, place: int, piece: str) -> bool:
    beside = pattern[place - 1 : place] if piece == "^" else pattern[place + 1 : place + 2]
    return beside in ("", "|")


def _code(piece: str) -> int:
    """The character that a piece stands for."""
    if piece in _SETS:
        return _MANY
    if len(piece) > 2:
        return int(piece[2:], 16)
    if piece in _CONTROLS:
        return _CONTROLS[piece]
    if piece == "\\" or (piece[0] == "\\" and (piece[1].isalnum() or not piece[1].isascii())):
        return _UNKNOWN
    return ord(piece[-1])


def _plain(code: int) -> bool:
    """Whether a character can stand in a JSON text without an escape, and is one character."""
    return code == _MANY or (code >= 0x20 and code not in _ESCAPED_IN_JSON and not 0xD800 <= code <= 0xDFFF)


def _fits(inside: list[str], negated: bool) -> bool:
    """Quotes and backslashes in a class are left out by xgrammar, controls are not."""
    codes = [_code(piece) for piece in inside]
    if _UNKNOWN in codes or any(0xD800 <= code <= 0xDFFF for code in codes):
        return False
    if negated:
        return bool(codes) and (_WIDE.isdisjoint(inside) or _leaves_some(inside))
    return any(map(_plain, codes)) and all(_plain(code) or code in _ESCAPED_IN_JSON for code in codes)


def _leaves_some(inside: list[str]) -> bool:
    """Whether a negated class has a character that is no control: where it has none, xgrammar reads it as no text."""
    said = "".join(piece if piece in _SETS or piece == "-" else f"\\u{_code(piece):04x}" for piece in inside)
    try:
        return any(_plain(code) and re.match(f"[^{said}]", chr(code), re.ASCII) for code in range(0x7F))
    except re.error:
        return False


def spelled(pattern: str) -> str:
    """The same pattern in ASCII, and with the spaces and ends of lines of ECMA-262, of which xgrammar knows ASCII's.

    With one character that is not ASCII it no longer leaves quotes, backslashes and controls out of classes and dots.
    """
    pieces, spelt, inside = _PIECE.findall(pattern), "", ""
    for place, piece in enumerate(pieces):
        if inside == "[" and piece == "-" and "\\S" in pieces[place - 1 : place + 2]:
            continue  # it would make a range of what stands for \S, which has it anyway
        spelt += _SPELT.get((inside, piece), piece)
        if not inside and piece[0] == "[":
            inside = piece
        elif piece == "]":
            inside = ""
    return "".join(one if one.isascii() else f"\\u{ord(one):04x}" for one in spelt)


class _Group(str):
    """A part that one pair of brackets goes around, with nothing behind it."""


def written_out(pattern: str) -> str:
    """The same pattern without counts and question marks in and behind groups, which xgrammar gets wrong.

    It reads ``(?:x[0-9]+)?`` so that digits may come without their x, and counts inside of alternatives likewise.
    Lazy marks are left out: what fits is the same.

    Raises:
        ValueError: it is no pattern, or too long when it is written out.
    """
    if _GROUPS.isdisjoint(pattern):
        _check_counts(pattern)
        return pattern
    levels: list[list[str]] = [[]]  # of each open group, what it is made of
    for found in _PART.finditer(pattern):
        part, parts = found[0], levels[-1]
        if part[0] == "(":
            levels.append([])
        elif part == ")":
            if len(levels) == 1:
                raise ValueError("a group closes that is not open")
            inside = "".join(_flat(levels.pop()))
            levels[-1].append(_Group(f"(?:{inside})"))
        elif part[0] in "?*+" or (part[0] == "{" and found["low"]):
            many = part.rstrip("?") or "?"
            parts.append(_repeated(parts, many, found["low"], found["comma"], found["high"]))
        else:
            if part == "|":
                parts[:] = _flat(parts)
            parts.append(part)
        if sum(map(len, levels[-1])) > _LONGEST:
            raise ValueError("it is too long with its counts written out")
    if len(levels) > 1:
        raise ValueError("a group is not closed")
    return "".join(levels[0])


def _check_counts(pattern: str) -> None:
    counts = [int(count) for found in _PART.finditer(pattern) for count in found.group("low", "high") if count]
    if max(counts, default=0) > _MOST:
        raise ValueError(f"it counts beyond {_MOST}")
    if len(pattern) + sum(counts) > _LONGEST:
        raise ValueError("it is too long with its counts written out")


def _repeated(parts: list[str], many: str, low: str | None, comma: str | None, high: str | None) -> str:
    if not parts:
        raise ValueError("nothing stands before a count")
    part = parts.pop()
    if many[0] in "*+":
        return f"(?:{part}){many[0]}"
    least, most = (0, 1) if many == "?" else (int(low or 0), int(high or low or 0))
    if (max(least, most) + 1) * len(part) > _LONGEST or most < least:
        raise ValueError("it is too long with its counts written out")
    if comma and not high:
        return part * least + f"(?:{part})*"
    maybe = f"(?:|{part}" * (most - least) + "())" * (most - least)
    return part * least + maybe if least or not maybe else _Group(maybe)


def _flat(parts: list[str]) -> list[str]:
    """Without the group around the last alternative, and with an empty one behind it.

    Of alternatives that end alike, and of alternatives in alternatives, xgrammar mixes the branches.
    """
    if parts and isinstance(parts[-1], _Group) and (len(parts) == 1 or parts[-2] == "|"):
        parts = [*parts[:-1], parts[-1][3:-1]]
    return [*parts, "()"]

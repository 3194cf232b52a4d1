"""Files as texts: what is read, in pieces of bounded size, each with the place it has in its file."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nacre.base.errors import InputError, NacreError
from nacre.serve.knowledge import part
from nacre.serve.knowledge.html import visible

SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
}
_SEGMENT = 1 << 16  # characters: what is in memory of a long file at a time, several times over
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_HIDDEN_HTML = re.compile(
    r"<([a-z][\w-]*)\b[^>]*(?:\bhidden\b|display\s*:\s*none|font-size\s*:\s*0(?![.\d]))[^>]*>.*?</\1\s*>",
    re.IGNORECASE | re.DOTALL,
)
_DEFINED = re.compile(
    r"^[ ]{0,3}\[[^\]\n]{1,200}\]:[ \t]*(?:#|<>|<#>)[^\n]*$", re.MULTILINE
)  # a link to nowhere: a note


@dataclass(frozen=True)
class Segment:
    """A part of a document.

    Attributes:
        text: what its readers see.
        unit: what is counted in its place: lines or pages; empty where nothing can be.
        first: number of its first line, or of its page.
        hidden: parts that its readers do not see, and that were left out.
    """

    text: str
    unit: str = ""
    first: int = 1
    hidden: int = 0

    def place(self, begin: int, end: int) -> str:
        """Where a part of it lies in the file."""
        if self.unit == "page":
            return f"page {self.first}"
        if self.unit != "line":
            return ""
        first = self.first + self.text.count("\n", 0, begin)
        last = first + self.text.count("\n", begin, end)
        return f"line {first}" if first == last else f"lines {first}-{last}"


@dataclass
class Found:
    """The files of a source.

    Attributes:
        files: those that can be read, with the name that citations give them.
        skipped: how many were left out, by reason.
    """

    files: dict[Path, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def files_of(source: Path) -> Found:
    """The files of a folder, or the one that is named; hidden ones and links are left out.

    Raises:
        InputError: there is no such file or folder, or the file is of a kind that is not read.
    """
    found = Found()
    known = ", ".join(SUFFIXES)
    if source.is_file():
        if source.suffix.lower() not in SUFFIXES:
            raise InputError("files of this kind are not read", where=str(source), fix=f"known: {known}")
        found.files[source] = source.name
        return found
    if not source.is_dir():
        fix = "check the path; nacre knowledge remove takes a source that is gone for good out of the store"
        raise InputError("there is no such file or folder", where=str(source), fix=fix)
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if any(name.startswith(".") for name in inside.parts):
            found.skipped["hidden"] += path.is_file()
        elif path.is_symlink():
            found.skipped["a link"] += 1
        elif path.is_file() and path.suffix.lower() not in SUFFIXES:
            found.skipped[f"of kind {path.suffix.lower() or 'without a suffix'}"] += 1
        elif path.is_file():
            found.files[path] = f"{source.name}/{inside.as_posix()}"
    found.skipped = +found.skipped
    return found


def segments(path: Path, most_bytes: int) -> Iterator[Segment]:
    """The text of a file, part by part.

    Raises:
        NacreError: it is too large, not UTF-8, damaged, or asks for a password.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise NacreError(f"it is larger than knowledge.max_file_mb: {size} bytes", where=str(path))
    kind = SUFFIXES[path.suffix.lower()]
    if kind == "pdf":
        for number, text in enumerate(part("pdf")(path), 1):
            yield Segment(text, "page", number)
    elif kind == "html":
        text, hidden = visible(_text(path))
        for begin in range(0, len(text), _SEGMENT):
            yield Segment(text[begin : begin + _SEGMENT], hidden=hidden if begin == 0 else 0)
    elif kind == "markdown":
        text, hidden = _without_notes(_text(path))
        yield from _lines(iter(text.splitlines(keepends=True)), hidden)
    else:
        yield from _plain(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NacreError(f"it is not UTF-8: byte {error.start}", where=str(path)) from None


def _plain(path: Path) -> Iterator[Segment]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _lines(file)
    except UnicodeDecodeError as error:
        raise NacreError(f"it is not UTF-8: byte {error.start} of a part", where=str(path)) from None


def _lines(lines: Iterator[str], hidden: int = 0) -> Iterator[Segment]:
    """Lines together until they are long enough; a line that is longer by itself is cut."""
    held: list[str] = []
    length, first = 0, 1
    for number, line in enumerate(lines, 1):
        held.append(line)
        length += len(line)
        if length >= _SEGMENT:
            text = "".join(held)
            for begin in range(0, length, _SEGMENT):
                piece = text[begin : begin + _SEGMENT]
                yield Segment(piece, "line", first, hidden)
                first, hidden = first + piece.count("\n"), 0
            held, length, first = [], 0, number + 1
    if held:
        yield Segment("".join(held), "line", first, hidden)


def _without_notes(text: str) -> tuple[str, int]:
    """Markdown without what its readers do not see: comments, hidden HTML, and links to nowhere that carry a note."""
    count = 0
    for pattern in (_COMMENT, _HIDDEN_HTML, _DEFINED):
        text, found = pattern.subn(lambda match: "\n" * match.group().count("\n"), text)
        count += found
    return text, count

"""How the rows of a file are laid out, told by the first part of its text."""

import re
from pathlib import Path
from typing import Literal

from nacre.base.errors import InputError
from nacre.data.encoding import PARQUET, Encoding
from nacre.data.strict import Malformed, loads
from nacre.data.tables import Dialect, table_dialect

Layout = Literal["JSON lines", "JSON array", "JSON objects", "plain text", "table", "Parquet"]

WRAPPER = re.compile(r'\s*\{\s*"(data|rows|train|examples|records|items|instances)"\s*:\s*\[(?=\s*\{)')
COMMENTS = re.compile(r"(?:\s*(?://[^\n]*\n|#[^\n]*\n|/\*.*?\*/))+\s*(?=[\[{])", re.DOTALL)
"""Comments above the data, which JSON has not but people write."""
_HEAD_LINES = 20


def layout(path: Path, encoding: Encoding) -> tuple[Layout, Dialect | None]:
    """How the rows are laid out; for a table, also how it is written.

    Raises:
        InputError: the text holds no rows, or a table that does not name its columns.
    """
    if encoding == PARQUET:
        return "Parquet", None
    start = encoding.head.lstrip("\ufeff \t\r\n")
    lines = [line for line in re.split(r"\r\n|\r|\n", start) if line.strip()][:_HEAD_LINES]
    whole = [line for line in lines if line.startswith("{") and is_object(line)]
    prose = path.suffix == ".txt" or path.suffixes[-2:] == [".txt", ".gz"]
    if WRAPPER.match(encoding.head) and len(whole) <= 1:
        return "JSON array", None
    if whole or not prose or _opens_json(start):
        if start.startswith("["):
            return "JSON array", None
        above = COMMENTS.match(start)
        if above and not whole:
            return ("JSON array" if start[above.end()] == "[" else "JSON objects"), None
        alone = [line for line in lines if line.startswith("{") and line.rstrip(" \t,").endswith("}")]
        if whole or (start.startswith("{") and (len(lines) == 1 or len(alone) > len(lines) / 2)):
            return "JSON lines", None
        if start.startswith("{"):
            return "JSON objects", None
    dialect = table_dialect(encoding.head, str(path), prose=prose)
    if dialect is not None:
        return "table", dialect
    if prose:
        return "plain text", None
    raise _no_rows(path, lines)


def is_object(line: str) -> bool:
    """Whether the line is one JSON object."""
    try:
        return isinstance(loads(line), dict)
    except Malformed:
        return False


def _opens_json(start: str) -> bool:
    return re.match(r'\{\s*"|\[\s*[{\]]', start) is not None


def _no_rows(path: Path, lines: list[str]) -> InputError:
    shown = lines[0][:60] if lines else ""
    fix = 'write one {"instruction": …, "output": …} a line, or name a file of plain text .txt'
    return InputError(f"this is not JSON: it begins with {shown!r}", where=f"{path}, line 1", fix=fix)

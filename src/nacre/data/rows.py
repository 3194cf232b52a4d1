"""Rows kept in the memory folder: one file per set of rows, named by the SHA-256 of its bytes.

An example's origin is part of the bytes, but only the name of its file, not the folder it lies in: the same
data gives the same hash on every machine.
"""

from collections.abc import Iterable
from pathlib import Path, PurePath

from pydantic import ValidationError

from nacre.base.errors import NacreError
from nacre.base.files import atomic_write
from nacre.base.hashing import sha256_file, sha256_text
from nacre.records import Example, RowsFile

_FIX = "restore the memory folder from a backup, or take the snapshot of that increment again"


def write_rows(memory: Path, examples: Iterable[Example]) -> RowsFile:
    """Keep rows as ``rows/<sha256>.jsonl`` below `memory`; the same rows in the same order give the same file.

    Raises:
        NacreError: the disk is full or cannot be written; nothing is half-written.
    """
    lines = [_portable(example).to_json() + "\n" for example in examples]
    text = "".join(lines)
    found = RowsFile(sha256=sha256_text(text), rows=len(lines))
    path = rows_path(memory, found.sha256)
    if not path.is_file() or sha256_file(path) != found.sha256:
        atomic_write(path, text)
    return found


def read_rows(memory: Path, rows: RowsFile | str) -> list[Example]:
    """The rows of a file that `write_rows` made, checked against its hash.

    Raises:
        NacreError: the file is missing, or its bytes are not those that were written.
    """
    sha256 = rows if isinstance(rows, str) else rows.sha256
    path = rows_path(memory, sha256)
    if not path.is_file():
        raise NacreError("a file of kept rows is missing", where=str(path), fix=_FIX)
    text = path.read_bytes().decode(errors="replace")  # damaged bytes give another hash below
    if sha256_text(text) != sha256:
        raise NacreError("a file of kept rows is damaged: its bytes are not those written", where=str(path), fix=_FIX)
    try:
        return [Example.from_json(line) for line in text.split("\n")[:-1]]
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"a row has a field this version of nacre cannot read: {first['loc']}"
        raise NacreError(reason, where=str(path), fix="use the nacre that wrote it, or a newer one") from None


def rows_path(memory: Path, sha256: str) -> Path:
    """Where the rows with this hash are kept."""
    return memory / "rows" / f"{sha256}.jsonl"


def _portable(example: Example) -> Example:
    name = PurePath(example.origin.file).name
    return example.model_copy(update={"origin": example.origin.model_copy(update={"file": name})})

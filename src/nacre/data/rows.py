"""Rows kept in the memory folder: one file per set of rows, named by the SHA-256 of its bytes.

An example's origin is part of the bytes, but only the name of its file, not the folder it lies in: the same
data gives the same hash on every machine.

Rows that were removed for good leave with their whole file; `forgotten.jsonl` says which file took its place.
Pictures lie beside, see `nacre.data.pictures`.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath

from pydantic import ValidationError

from nacre.base.errors import NacreError
from nacre.base.files import atomic_write
from nacre.base.hashing import sha256_file, sha256_text
from nacre.data.pictures import from_memory, in_memory
from nacre.records import Example, RowsFile
from nacre.records.forgotten import Forgotten

FORGOTTEN = "forgotten.jsonl"
_FIX = "restore the memory folder from a backup, or take the snapshot of that increment again"


def write_rows(memory: Path, examples: Iterable[Example]) -> RowsFile:
    """Keep rows as ``rows/<sha256>.jsonl`` below `memory`; the same rows in the same order give the same file.

    Raises:
        NacreError: the disk is full or cannot be written; nothing is half-written.
    """
    lines = [_portable(in_memory(example, memory)).to_json() + "\n" for example in examples]
    text = "".join(lines)
    found = RowsFile(sha256=sha256_text(text), rows=len(lines))
    path = rows_path(memory, found.sha256)
    if path.is_file():
        with suppress(OSError):  # on a disk that cannot be written nothing is collected either
            os.utime(path)  # whoever collects what nothing needs sees that somebody is about to need it
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
        if sha256 in {one.sha256 for one in read_forgotten(memory)}:
            what, fix = "rows of this file were removed for good", "nacre data forget list says which and why"
            raise NacreError(what, where=str(path), fix=fix)
        raise NacreError("a file of kept rows is missing", where=str(path), fix=_FIX)
    text = path.read_bytes().decode(errors="replace")  # damaged bytes give another hash below
    if sha256_text(text) != sha256:
        raise NacreError("a file of kept rows is damaged: its bytes are not those written", where=str(path), fix=_FIX)
    try:
        return [from_memory(Example.from_json(line), memory) for line in text.split("\n")[:-1]]
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"a row has a field this version of nacre cannot read: {first['loc']}"
        raise NacreError(reason, where=str(path), fix="use the nacre that wrote it, or a newer one") from None


def rows_path(memory: Path, sha256: str) -> Path:
    """Where the rows with this hash are kept."""
    return memory / "rows" / f"{sha256}.jsonl"


def general_path(memory: Path, sha256: str) -> Path:
    """Where general text of that hash is kept."""
    return memory / "general" / f"{sha256}.jsonl"


def read_forgotten(memory: Path) -> list[Forgotten]:
    """The files that lost rows, in the order in which that happened; none where nothing was ever removed."""
    path = memory / FORGOTTEN
    if not path.is_file():
        return []
    return [Forgotten.from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_forgotten(memory: Path, files: Iterable[Forgotten]) -> None:
    """Write down which files lost rows."""
    atomic_write(memory / FORGOTTEN, "".join(one.to_json() + "\n" for one in files))


def forgotten_ids(memory: Path) -> frozenset[str]:
    """Content ids of all rows that were removed for good."""
    return frozenset(row for one in read_forgotten(memory) for row in one.rows)


def without_forgotten(memory: Path) -> dict[str, RowsFile]:
    """For each file that lost rows the one that stands in its place now."""
    found: dict[str, RowsFile] = {}
    for one in read_forgotten(memory):
        found[one.sha256] = one.now
    for sha in found:
        while found[sha].sha256 in found:
            found[sha] = found[found[sha].sha256]
    return found


def _portable(example: Example) -> Example:
    name = PurePath(example.origin.file).name
    return example.model_copy(update={"origin": example.origin.model_copy(update={"file": name})})

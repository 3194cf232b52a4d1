"""General text for learning a domain: most of it is mixed in, some is kept apart to see what becomes of it."""

from pathlib import Path
from typing import NamedTuple

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import canonical_json, sha256_text
from nacre.data.all_dev import row_of
from nacre.data.compose.pieces import text_of
from nacre.data.convert import read_examples
from nacre.data.rows import general_path, write_rows
from nacre.records import Example, Message, RowsFile

HELD_SHARE, HELD_MOST = 0.1, 200  # texts that are kept apart
LEAST = 20  # texts, or there is nothing to keep apart


class GeneralText(NamedTuple):
    """Both parts of a file.

    Attributes:
        replayed: file of the rows that are mixed in, named by its hash, so that a training can be repeated.
        texts: what these rows say.
        held: rows of plain text that are only looked at.
        notes: what was done, in sentences.
    """

    replayed: Path
    texts: list[str]
    held: RowsFile
    notes: tuple[str, ...]


def split_general(path: Path, memory: Path) -> GeneralText:
    """A tenth of the rows, those of the lowest hash, kept apart, but at most 200; the others kept for mixing in.

    Raises:
        InputError: the file is not there, cannot be read, or has fewer than 20 different rows.
        NacreError: the disk is full or cannot be written.
    """
    if not path.is_file():
        raise InputError("the file with general text does not exist", where=str(path), fix="check the path")
    found = read_examples(path)
    rows = {row.content_id: row for row in found.examples if row.kind in ("text", "sft")}
    if len(rows) < LEAST:
        raise InputError(
            f"the general text has {len(rows)} different rows; some are mixed in, and some show what becomes of it",
            where=str(path),
            fix=f"give at least {LEAST} rows of plain text, or with answers",
        )
    apart = set(sorted(rows)[: min(HELD_MOST, max(1, round(HELD_SHARE * len(rows))))])
    mixed = [row for content, row in rows.items() if content not in apart]
    body = "".join(f"{canonical_json(row_of(row))}\n" for row in mixed)
    kept = general_path(memory, sha256_text(body))
    if not kept.exists():
        atomic_write(kept, body)
    held = write_rows(memory, [_plain(row) for content, row in rows.items() if content in apart])
    notes = [f"general text: {len(mixed)} rows of {path.name} are mixed in, {len(apart)} are only looked at"]
    if left := len(found.dropped) + sum(row.kind not in ("text", "sft") for row in found.examples):
        notes.append(f"general text: {left} rows of {path.name} cannot be used")
    return GeneralText(kept, [text_of(row) for row in mixed], held, tuple(notes))


def _plain(row: Example) -> Example:
    """All that a row says, as plain text. Its id and where it came from stay: by them it may have to be forgotten."""
    origin = row.origin.model_copy(update={"extra": {"id": row.content_id} | row.origin.extra})
    return Example(kind="text", prompt=(Message(role="user", content=text_of(row)),), origin=origin)

"""A ledger of an older schema becomes one of today's: step by step, in one transaction, with a copy made before.

A step only ever adds: a nacre that still knows the older schema and has the ledger open meanwhile goes on working.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import sqlalchemy as sa

from nacre.base.files import disk_errors, fsync_folder
from nacre.records import Event
from nacre.registry import events, tables


def _to_2(connection: sa.Connection) -> None:
    """Followers of the history, rollouts, what waits for a person; and events can be found by their kind."""
    for table in (tables.follower, tables.release, tables.review):
        table.create(connection)
    event = tables.event
    connection.execute(sa.text("ALTER TABLE event ADD COLUMN kind VARCHAR(32)"))
    known = connection.execute(sa.select(event.c.id, event.c.record)).all()
    fill = event.update().where(event.c.id == sa.bindparam("number")).values(kind=sa.bindparam("found"))
    kinds = [{"number": row.id, "found": Event.from_json(row.record).kind} for row in known]
    if kinds:
        connection.execute(fill, kinds)
    for index in event.indexes:
        index.create(connection)


def _to_3(connection: sa.Connection) -> None:
    """Keys to the API, and what they have used."""
    for table in (tables.key, tables.key_use):
        table.create(connection)


def _to_4(connection: sa.Connection) -> None:
    """What was asked can be found by its hash; who gave an opinion, why it waits, and what was made of it."""
    added: dict[str, tuple[sa.Column[str], ...]] = {"interaction": (tables.interaction.c.prompt,)}
    added["feedback"] = (tables.feedback.c.person, tables.feedback.c.why, tables.feedback.c.increment)
    for table, columns in added.items():
        for column in columns:
            kind = column.type.compile(connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {column.name} {kind} DEFAULT '' NOT NULL"))
            index = next((one for one in column.table.indexes if column.name in one.columns), None)
            if index is not None:
                index.create(connection)


# From which schema a step leads to the next one. A step is never changed once it was released.
STEPS: Mapping[int, Callable[[sa.Connection], None]] = {1: _to_2, 2: _to_3, 3: _to_4}


def can_migrate(found: str | None) -> bool:
    """Whether there is a way from the older schema `found` to today's: there is a step from it, and from all after."""
    return found is not None and found.isdigit() and int(found) in STEPS


def migrate(connection: sa.Connection, found: int) -> str:
    """Bring the ledger from the schema `found` to today's, within the caller's transaction, which holds the lock.

    Of a SQLite file a copy is made first, as ``<file>.schema-<found>``; PostgreSQL has backups of its own.

    Returns:
        One sentence that says what was done and where the copy lies.

    Raises:
        NacreError: the disk is full or cannot be written; the ledger is as it was.
    """
    kept = _copy(connection, found)
    for schema in range(found, tables.SCHEMA):
        STEPS[schema](connection)
    connection.execute(
        tables.meta.update().where(tables.meta.c.name == "schema").values(value=str(tables.SCHEMA)),
    )
    events.append(connection, "migrated", "nacre", {"from": found, "to": tables.SCHEMA, "backup": kept.name})
    where = f"a copy from before lies at {kept}" if kept.name else "your own backups are the copies from before"
    return f"the ledger had schema {found} and has schema {tables.SCHEMA} now; {where}"


def _copy(connection: sa.Connection, found: int) -> Path:
    """A whole copy of the SQLite file, as it was before this transaction; an empty path for other databases."""
    if connection.dialect.name != "sqlite":
        return Path()
    source = Path(connection.execute(sa.text("select file from pragma_database_list where name = 'main'")).scalar_one())
    kept = source.with_name(f"{source.name}.schema-{found}")
    with disk_errors(kept):
        handle, name = tempfile.mkstemp(dir=source.parent, prefix=f".{kept.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            _copy_pages(source, temporary)
            shutil.copymode(source, temporary)
            temporary.replace(kept)  # a copy that a killed attempt left holds no more than this one
            fsync_folder(kept.parent)
        finally:
            for rest in temporary.parent.glob(f"{temporary.name}*"):
                rest.unlink()
    return kept


def _copy_pages(source: Path, target: Path) -> None:
    """SQLite's own copy. A second connection sees what was there before the transaction that holds the lock."""
    reading, writing = sqlite3.connect(source), sqlite3.connect(target)
    try:
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    finally:
        reading.close()
        writing.close()
    with target.open("rb+") as file:
        os.fsync(file.fileno())

"""The database below the ledger: opening, creating once, transactions, and errors in plain words."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from nacre.base.errors import InputError, NacreError
from nacre.base.files import disk_errors, file_lock
from nacre.registry import tables

_BUSY_MS = 30_000
_LOCK_KEY = 0x6E6163_7265  # "nacre"; the advisory lock under which PostgreSQL tables are made

_SQLITE_PROBLEMS = {
    sqlite3.SQLITE_FULL: ("the disk is full; nothing was written", "free some space and run the command again"),
    sqlite3.SQLITE_READONLY: ("the ledger is read-only; nothing was written", "change its permissions"),
    sqlite3.SQLITE_PERM: ("the ledger may not be opened", "change its permissions"),
    sqlite3.SQLITE_CANTOPEN: ("the ledger cannot be opened", "check the path and its permissions"),
    sqlite3.SQLITE_BUSY: ("another process holds the ledger", "wait for it, then run the command again"),
    sqlite3.SQLITE_IOERR: ("the disk fails while reading or writing", "check the disk, then run `nacre verify`"),
    sqlite3.SQLITE_CORRUPT: ("the ledger is damaged", "restore it from a backup"),
    sqlite3.SQLITE_NOTADB: ("the file is no ledger", "check the path"),
}


class Database:
    """One ledger database. Safe to share between threads; each process opens its own.

    Args:
        url: any SQLAlchemy URL; tested with ``sqlite:///path`` and ``postgresql://user@host/name``.

    Raises:
        InputError: the URL cannot be read, or its driver is not installed.
        NacreError: the database cannot be reached, or holds something else.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.shown = self.engine.url.render_as_string(hide_password=True)
        self._create_once()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one consistent state."""
        with self._errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that no other writer overlaps: all of it happens, or nothing.

        SQLite takes its one write lock at the start; elsewhere a row of `meta` is the lock.
        """
        with (
            self._errors(),
            self.engine.connect().execution_options(nacre_write=True) as connection,
            connection.begin(),
        ):
            connection.execute(sa.select(tables.meta.c.value).where(tables.meta.c.name == "schema").with_for_update())
            yield connection

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()

    def _create_once(self) -> None:
        """Make the tables of a fresh database, however many processes open it at once."""
        sqlite = self.engine.dialect.name == "sqlite"
        path = Path((self.engine.url.database or "").removeprefix("file:"))
        if sqlite:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            if self._ready():
                return
            with file_lock(path.with_name(f"{path.name}.lock")) if sqlite else nullcontext():
                if sqlite:
                    _set_wal(self.engine)
                with self.engine.connect().execution_options(nacre_write=True) as connection, connection.begin():
                    if self.engine.dialect.name == "postgresql":
                        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
                    self._create(connection)

    def _create(self, connection: sa.Connection) -> None:
        present = set(sa.inspect(connection).get_table_names())
        if tables.meta.name in present:
            return
        foreign = sorted(present & set(tables.metadata.tables))
        if foreign:
            raise NacreError(
                f"the database holds tables of another program: {', '.join(foreign)}",
                where=self.shown,
                fix="give nacre a database of its own",
            )
        tables.metadata.create_all(connection)
        connection.execute(tables.meta.insert().values(name="schema", value=str(tables.SCHEMA)))

    def _ready(self) -> bool:
        """Whether the tables are there, in the schema this program knows."""
        with self.engine.connect() as connection, connection.begin():
            if not sa.inspect(connection).has_table(tables.meta.name):
                return False
            query = sa.select(tables.meta.c.value).where(tables.meta.c.name == "schema")
            found = connection.execute(query).scalar_one_or_none()
        if found == str(tables.SCHEMA):
            return True
        if found is not None and found.isdigit() and int(found) > tables.SCHEMA:
            fix = "install the newer nacre that wrote it"
        else:
            fix = "open it with the nacre that wrote it, or give this one a new ledger"
        raise NacreError(
            f"the ledger has schema {found or 'none'}; this nacre knows schema {tables.SCHEMA}",
            where=self.shown,
            fix=fix,
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the driver's errors into a NacreError; broken promises of our own (constraints) pass through."""
        try:
            yield
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
                if code not in _SQLITE_PROBLEMS:
                    raise
                what, fix = _SQLITE_PROBLEMS[code]
            elif isinstance(error, sa.exc.OperationalError):
                reason = str(error.orig).strip().splitlines()[0]
                what, fix = f"the database refused: {reason}", "check that it runs and that the URL is right"
            else:
                raise
            raise NacreError(what, where=self.shown, fix=fix) from error


def _engine(url: str) -> sa.Engine:
    """An engine whose transactions begin when we say so, not when the driver guesses."""
    try:
        parsed = sa.make_url(url)
        engine = sa.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except (ArgumentError, NoSuchModuleError):
        raise InputError(
            "the ledger's URL cannot be read",
            where=f"ledger: {url.split('@')[-1]}",
            fix="write sqlite:///path/to/ledger.db or postgresql://user@host/name",
        ) from None
    except ModuleNotFoundError as error:
        raise InputError(
            f"the database driver {error.name} is not installed",
            where=f"ledger: {parsed.render_as_string(hide_password=True)}",
            fix="pip install 'nacre[postgres]' for PostgreSQL",
        ) from None
    if engine.dialect.name == "sqlite":
        if not engine.url.database or engine.url.database == ":memory:":
            raise InputError("a ledger in memory forgets everything", fix="write sqlite:///path/to/ledger.db")
        sa.event.listen(engine, "connect", _on_connect)
        sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    connection.execute("PRAGMA synchronous=FULL")  # a promotion that was reported survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")


def _on_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("nacre_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_wal(engine: sa.Engine) -> None:
    """Readers do not wait for the writer. Kept in the file, so once is enough; not allowed in a transaction."""
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()

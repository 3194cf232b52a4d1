"""The database below the ledger: opening, creating once, transactions, and errors in plain words."""

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from nacre.base.addresses import shown_address
from nacre.base.errors import InputError, NacreError
from nacre.base.files import disk_errors, file_lock
from nacre.registry import migrations, tables

_log = logging.getLogger("nacre.registry")

_BUSY_MS = 30_000
_NEEDED_BYTES = 1 << 16  # what a transaction may write beside the file
_LOCK_KEY = 0x6E6163_7265  # "nacre"; the advisory lock under which PostgreSQL tables are made

# A server that vanished without a word closes no connection: libpq's own defaults wait for it for hours.
_PATIENCE = {
    "connect_timeout": 10,  # seconds
    "tcp_user_timeout": 20_000,  # milliseconds that what was sent may stay unconfirmed
    "keepalives_idle": 10,  # seconds of silence until it is asked whether it is still there
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

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
        self.shown = _shown(self.engine.url)
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

    def settle(self) -> None:
        """Let nothing that was deleted stay in SQLite's journal, as far as those who read now let it go.

        Deleted rows are overwritten in the file (see `_on_connect`); the journal beside it still has their pages.
        """
        if self.engine.dialect.name == "sqlite":
            with self._errors():
                raw = self.engine.raw_connection()
                try:
                    raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    raw.close()

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()

    def _create_once(self) -> None:
        """Make the tables of a fresh database, or update an older one's, however many processes open it at once."""
        sqlite = self.engine.dialect.name == "sqlite"
        path = _path(self.engine)
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
        """Make the tables, or bring those of an older schema up to date, unless another process just has."""
        present = set(sa.inspect(connection).get_table_names())
        if tables.meta.name in present:
            # the lock that every writer takes first, so that none that has the ledger open is caught between two tables
            connection.execute(sa.select(tables.meta.c.value).where(tables.meta.c.name == "schema").with_for_update())
            found = _schema(connection)
            if found != str(tables.SCHEMA) and migrations.can_migrate(found):
                _log.warning(migrations.migrate(connection, int(found or 0)))
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
        """Whether the tables are there, in the schema of today; False where they can be made or brought up to date."""
        with self.engine.connect() as connection, connection.begin():
            if not sa.inspect(connection).has_table(tables.meta.name):
                return False
            found = _schema(connection)
        if found == str(tables.SCHEMA):
            return True
        if migrations.can_migrate(found):
            return False
        if found is not None and found.isdigit() and int(found) > tables.SCHEMA:
            fix = "install the newer nacre that wrote it"
        else:
            fix = "open it with the nacre that wrote it, or give this one a new ledger"
        raise NacreError(
            f"the ledger has schema {found or 'none'}; this nacre knows schema {tables.SCHEMA}",
            where=self.shown,
            fix=fix,
        )

    def _full(self) -> bool:
        """Whether the disk has no room: for want of space beside its file SQLite names no cause."""
        try:
            return shutil.disk_usage(_path(self.engine).parent).free < _NEEDED_BYTES
        except OSError:
            return False

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the driver's errors into a NacreError; broken promises of our own (constraints) pass through."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            driver = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(driver, sqlite3.Error):
                code = getattr(driver, "sqlite_errorcode", 0) & 0xFF
                if code == sqlite3.SQLITE_IOERR and self._full():
                    code = sqlite3.SQLITE_FULL
                if code not in _SQLITE_PROBLEMS:
                    raise
                what, fix = _SQLITE_PROBLEMS[code]
            elif isinstance(error, sa.exc.OperationalError):
                reason = str(driver).strip().splitlines()[0]
                what, fix = f"the database refused: {reason}", "check that it runs and that the URL is right"
            else:
                raise
            raise NacreError(what, where=self.shown, fix=fix) from error


def _shown(url: sa.URL) -> str:
    """The address without user and password, wherever they stand in it."""
    if url.get_backend_name() == "sqlite":
        return f"{url.drivername}:///{url.database}"
    return shown_address(url.render_as_string(hide_password=True))


def _path(engine: sa.Engine) -> Path:
    """The file of a SQLite database."""
    return Path((engine.url.database or "").removeprefix("file:"))


def _schema(connection: sa.Connection) -> str | None:
    """The number of the schema that the ledger was written in."""
    query = sa.select(tables.meta.c.value).where(tables.meta.c.name == "schema")
    return connection.execute(query).scalar_one_or_none()


def _patience(url: sa.URL) -> dict[str, int]:
    """How long a PostgreSQL server that is gone is waited for; what the URL itself says counts before."""
    if url.get_backend_name() != "postgresql":
        return {}
    return {name: value for name, value in _PATIENCE.items() if name not in url.query}


def _engine(url: str) -> sa.Engine:
    """An engine whose transactions begin when we say so, not when the driver guesses."""
    try:
        parsed = sa.make_url(url)
        engine = sa.create_engine(
            parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite", connect_args=_patience(parsed)
        )
    except (ArgumentError, NoSuchModuleError, ValueError):  # of a port that is no number
        raise InputError(
            "the ledger's URL cannot be read",
            where=f"ledger: {shown_address(url)}",
            fix="write sqlite:///path/to/ledger.db or postgresql://user@host/name",
        ) from None
    except ModuleNotFoundError as error:
        raise InputError(
            f"the database driver {error.name} is not installed",
            where=f"ledger: {_shown(parsed)}",
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
    connection.execute("PRAGMA secure_delete=ON")  # what was deleted is overwritten, not only let go


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

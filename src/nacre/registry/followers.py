"""How far each program outside has been told what happened. The history is the outbox; a follower is a place in it."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.base.files import disk_errors
from nacre.base.hashing import sha256_text
from nacre.records import Event
from nacre.registry.database import Database
from nacre.registry.tables import event, follower


class UnreadableEvent(NacreError):
    """An event of the history is no event any more.

    Attributes:
        number: which one.
    """

    def __init__(self, number: int) -> None:
        fix = "the history was altered: see nacre verify, and restore the ledger from a backup"
        super().__init__(f"event {number} cannot be read", where=f"event {number}", fix=fix)
        self.number = number

    def __reduce__(self) -> tuple[object, ...]:
        return UnreadableEvent, (self.number,)


@dataclass(frozen=True)
class Cursor:
    """Where a follower stands.

    Attributes:
        event: number of the last event that was delivered, skipped or parked; 0 for none.
        tries: how often the event after it has failed; below zero while nobody was met at all.
        error: what was wrong the last time; empty while nothing is.
        parked: events that were given up, by number, with what was wrong.
        updated: when this was last written.
    """

    name: str
    event: int
    tries: int
    error: str
    parked: dict[int, str]
    updated: str


class Followers:
    """The cursors of one ledger. Each write is one transaction; nothing here is part of a move of a slot."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enrol(self, name: str, *, from_start: bool) -> Cursor:
        """The follower's cursor; a new follower begins at the first event, or behind the newest one."""
        known = self.get(name)
        if known is not None:
            return known
        with self._database.write() as connection:
            row = connection.execute(sa.select(follower).where(follower.c.name == name)).first()
            if row is None:
                begin = 0 if from_start else _newest(connection)
                fresh = {"name": name, "event": begin, "tries": 0, "error": "", "parked": "{}", "updated": now()}
                connection.execute(follower.insert().values(fresh))
                row = connection.execute(sa.select(follower).where(follower.c.name == name)).one()
            return _cursor(row)

    def get(self, name: str) -> Cursor | None:
        """The follower's cursor, if it was ever enrolled."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(follower).where(follower.c.name == name)).first()
        return None if row is None else _cursor(row)

    def newest(self) -> int:
        """The number of the newest event; cheap enough to ask every second."""
        with self._database.read() as connection:
            return _newest(connection)

    def after(self, number: int, limit: int) -> list[Event]:
        """At most `limit` events behind event `number`, oldest first; fewer where one of them cannot be read.

        Raises:
            UnreadableEvent: the first of them cannot be read.
        """
        query = sa.select(event.c.id, event.c.record).where(event.c.id > number).order_by(event.c.id).limit(limit)
        found: list[Event] = []
        with self._database.read() as connection:
            for row in connection.execute(query):
                try:
                    found.append(_read(row.id, row.record))
                except UnreadableEvent:
                    if not found:
                        raise
                    break
        return found

    def one(self, number: int) -> Event | None:
        """The event of that number.

        Raises:
            UnreadableEvent: it cannot be read.
        """
        with self._database.read() as connection:
            text = connection.execute(sa.select(event.c.record).where(event.c.id == number)).scalar_one_or_none()
        return None if text is None else _read(number, text)

    def moves(self, *, after: int = 0, before: int | None = None) -> Iterator[Event]:
        """The events between those two that say where every slot stands, newest first, without unreadable ones."""
        within = [event.c.id > after, event.c.record.contains('"slots"')]
        if before is not None:
            within.append(event.c.id < before)
        with self._database.read() as connection:
            numbers = connection.execute(sa.select(event.c.id).where(*within).order_by(event.c.id.desc())).scalars()
            likely = numbers.all()
        for number in likely:  # one at a time: nobody waits for a transaction while somebody is told
            with suppress(UnreadableEvent):
                found = self.one(number)
                if found is not None and "slots" in found.detail:
                    yield found

    def delivered(self, name: str, number: int) -> None:
        """The follower has event `number`, and all before it."""
        self._set(name, event=number, tries=0, error="")

    def failed(self, name: str, tries: int, error: str) -> None:
        """The event behind the cursor could not be delivered; it stays next."""
        self._set(name, tries=tries, error=error)

    def park(self, name: str, number: int, error: str) -> None:
        """Give event `number` up and go on behind it."""
        self._parked(name, lambda parked: parked | {number: error}, {"event": number, "tries": 0, "error": ""})

    def unpark(self, name: str, number: int) -> None:
        """A parked event was delivered after all."""
        self._parked(name, lambda parked: {key: value for key, value in parked.items() if key != number}, {})

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Whether this process is the only one that delivers to the follower, for the length of the block.

        False when another one does. The right goes with the process, however it ends.
        """
        with ExitStack() as held:
            if self._database.engine.dialect.name == "postgresql":
                connection = held.enter_context(self._database.engine.connect())
                key = int(sha256_text(f"nacre follower {name}")[:15], 16)
                mine = bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar())
                connection.commit()
                if mine:
                    held.callback(_unlock, connection, key)
                yield mine
                return
            database = Path((self._database.engine.url.database or "").removeprefix("file:")).absolute()
            mark = f"{database.name}.{sha256_text(name)[:12]}.lock"
            yield _taken(held, database.with_name(mark))

    def _set(self, name: str, **values: object) -> None:
        with self._database.write() as connection:
            connection.execute(follower.update().where(follower.c.name == name).values(**values, updated=now()))

    def _parked(self, name: str, change: Callable[[dict[int, str]], dict[int, str]], values: dict[str, object]) -> None:
        with self._database.write() as connection:
            text = connection.execute(sa.select(follower.c.parked).where(follower.c.name == name)).scalar_one()
            parked = json.dumps(change(_numbers(text)))
            query = follower.update().where(follower.c.name == name)
            connection.execute(query.values(**values, parked=parked, updated=now()))


def _read(number: int, text: str) -> Event:
    try:
        return Event.from_json(text)
    except ValueError:
        raise UnreadableEvent(number) from None


def _cursor(row: sa.Row[tuple[object, ...]]) -> Cursor:
    return Cursor(row.name, row.event, row.tries, row.error, _numbers(row.parked), row.updated)


def _numbers(text: str) -> dict[int, str]:
    """The parked events; JSON has texts for keys."""
    return {int(number): error for number, error in json.loads(text).items()}


def _newest(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.max(event.c.id))).scalar() or 0


def _unlock(connection: sa.Connection, key: int) -> None:
    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
    connection.commit()


def _taken(held: ExitStack, path: Path) -> bool:
    """Whether the lock on `path` could be had, at once; it is held as long as `held`."""
    with disk_errors(path):
        file = held.enter_context(path.open("a"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

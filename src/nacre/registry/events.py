"""The append-only, hash-chained history."""

from typing import Any

import sqlalchemy as sa

from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.records import Event
from nacre.registry.tables import event, meta

HEAD, COUNT = "head", "events"  # in `meta`: the last event's hash and number, so that events missing at the end show
_KIND_LETTERS = 32  # as wide as the column


def append(connection: sa.Connection, kind: str, actor: str, detail: dict[str, Any]) -> Event:
    """Add one event behind the last one, within the caller's transaction."""
    if len(kind) > _KIND_LETTERS:
        raise ValueError(f"the kind of an event has at most {_KIND_LETTERS} letters: {kind}")
    last = connection.execute(sa.select(event.c.id, event.c.hash).order_by(event.c.id.desc()).limit(1)).first()
    number, previous = (last.id + 1, last.hash) if last else (1, "")
    added = Event(id=number, time=now(), actor=actor, kind=kind, detail=detail, previous=previous)
    digest = added.hash
    connection.execute(event.insert().values(id=added.id, kind=kind, hash=digest, record=added.to_json()))
    for name, value in ((HEAD, digest), (COUNT, str(number))):
        if not connection.execute(meta.update().where(meta.c.name == name).values(value=value)).rowcount:
            connection.execute(meta.insert().values(name=name, value=value))
    return added


def latest(connection: sa.Connection, limit: int | None) -> list[Event]:
    """The last `limit` events (all when None), oldest first."""
    query = sa.select(event.c.record).order_by(event.c.id.desc()).limit(limit)
    return [read(text) for text in reversed(connection.execute(query).scalars().all())]


def last(connection: sa.Connection, kind: str) -> Event | None:
    """The last event of a kind."""
    query = sa.select(event.c.record).where(event.c.kind == kind).order_by(event.c.id.desc()).limit(1)
    text = connection.execute(query).scalar()
    return read(text) if text is not None else None


def read(text: str) -> Event:
    """The event of a stored record.

    Raises:
        NacreError: it is damaged.
    """
    try:
        return Event.from_json(text)
    except ValueError:
        raise NacreError(
            "an event of the history cannot be read",
            where="ledger",
            fix="see nacre verify, and restore the ledger from a backup",
        ) from None


def verify(connection: sa.Connection, slots: dict[str, int]) -> int:
    """Check that no event was changed, removed or added, and that the slots are what the last move left.

    Args:
        connection: of a transaction.
        slots: version numbers by slot, as the slot table has them now.

    Returns:
        The number of events.

    Raises:
        NacreError: names the first event that does not fit.
    """
    known = connection.execute(sa.select(meta.c.name, meta.c.value).where(meta.c.name.in_((HEAD, COUNT))))
    last = {row.name: row.value for row in known}
    reached = int(last.get(COUNT, "0"))  # 0: by a nacre that did not write it yet
    previous, count = "", 0
    left: dict[str, int] = {}
    query = sa.select(event.c.id, event.c.hash, event.c.kind, event.c.record).order_by(event.c.id)
    for row in connection.execute(query):
        count += 1
        if row.id != count:
            raise _broken(count, "is missing")
        try:
            found = Event.from_json(row.record)
        except ValueError:
            raise _broken(count, "cannot be read") from None
        if found.id != row.id or found.hash != row.hash:
            raise _broken(count, "was changed")
        if found.previous != previous:
            raise _broken(count, "does not follow from the one before it")
        if count == reached and row.hash != last.get(HEAD):
            raise _broken(count, "is not the one that was written last")
        if count > reached > 0 and row.kind is not None:  # no kind: by a nacre of schema 1, which had it open
            raise _broken(count, "was added by hand")
        previous = row.hash
        left = found.detail.get("slots", left)
    if count < reached:
        raise _broken(count + 1, "is missing" if count + 1 == reached else f"and all up to {reached} are missing")
    if left != slots:
        raise NacreError(
            f"the slots are {slots}, but the history leaves them at {left}",
            where=f"event {count}",
            fix="somebody wrote to the ledger by hand, or events are missing at its end: restore a backup",
        )
    return count


def _broken(number: int, problem: str) -> NacreError:
    fix = "the history was altered: restore the ledger from a backup"
    return NacreError(f"event {number} {problem}", where=f"event {number}", fix=fix)

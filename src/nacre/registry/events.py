"""The append-only, hash-chained history."""

from typing import Any

import sqlalchemy as sa

from nacre.base.clock import now
from nacre.base.errors import NacreError
from nacre.records import Event
from nacre.registry.tables import event


def append(connection: sa.Connection, kind: str, actor: str, detail: dict[str, Any]) -> Event:
    """Add one event behind the last one, within the caller's transaction."""
    last = connection.execute(sa.select(event.c.id, event.c.hash).order_by(event.c.id.desc()).limit(1)).first()
    number, previous = (last.id + 1, last.hash) if last else (1, "")
    added = Event(id=number, time=now(), actor=actor, kind=kind, detail=detail, previous=previous)
    connection.execute(event.insert().values(id=added.id, kind=kind, hash=added.hash, record=added.to_json()))
    return added


def latest(connection: sa.Connection, limit: int | None) -> list[Event]:
    """The last `limit` events (all when None), oldest first."""
    query = sa.select(event.c.record).order_by(event.c.id.desc()).limit(limit)
    return [Event.from_json(text) for text in reversed(connection.execute(query).scalars().all())]


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
    previous, count = "", 0
    left: dict[str, int] = {}
    for row in connection.execute(sa.select(event.c.id, event.c.hash, event.c.record).order_by(event.c.id)):
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
        previous = row.hash
        left = found.detail.get("slots", left)
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

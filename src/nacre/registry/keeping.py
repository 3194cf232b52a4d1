"""What must stay, and what was taken away: pins and collections, each an event of the history and nothing else."""

from collections.abc import Collection
from typing import Any

import orjson
import sqlalchemy as sa

from nacre.base.errors import ConflictError, InputError, NacreError
from nacre.records import Event, Version
from nacre.registry import events
from nacre.registry.database import Database
from nacre.registry.tables import event, release, version

PINNED, UNPINNED, COLLECTED, REGISTERED = "pinned", "unpinned", "collected", "registered"
_UNDER_WAY = ("candidate", "shadow", "canary")  # of a rollout: everything else is an end of it


class Keeping:
    """Pins, and which artifacts and rows were collected.

    The event comes before the deletion: a process that is killed in between leaves too much, never too little.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def pin(self, number: int, *, actor: str, why: str) -> Event:
        """Keep a version's weights, whatever the retention says, until `unpin`.

        Raises:
            InputError: there is no such version, or it is pinned.
            NacreError: its weights were collected.
        """
        with self._database.write() as connection:
            refuse_collected(connection, number)
            if number in _pins(connection):
                raise InputError(f"version {number} is pinned already", where="pin", fix="nothing to do")
            return events.append(connection, PINNED, actor, {"version": number, "why": why})

    def unpin(self, number: int, *, actor: str, why: str) -> Event:
        """Take a pin away.

        Raises:
            InputError: the version is not pinned; lists those that are.
        """
        with self._database.write() as connection:
            known = _pins(connection)
            if number not in known:
                shown = ", ".join(map(str, sorted(known))) or "none"
                raise InputError(f"version {number} is not pinned", where="unpin", fix=f"pinned: {shown}")
            return events.append(connection, UNPINNED, actor, {"version": number, "why": why})

    def pins(self) -> dict[int, str]:
        """The pinned versions, and why each was pinned."""
        with self._database.read() as connection:
            return _pins(connection)

    def rollouts(self) -> list[tuple[int, str]]:
        """Versions that are on their way to the users, and those they are compared with, each with the state."""
        query = sa.select(release.c.record, release.c.state).where(release.c.state.in_(_UNDER_WAY))
        with self._database.read() as connection:
            rows = [(orjson.loads(row.record), row.state) for row in connection.execute(query)]
        return [(number, state) for told, state in rows for number in (told["version"], told["champion"])]

    def collected(self) -> tuple[frozenset[str], frozenset[str]]:
        """Artifacts and rows files that were collected and have not come back since."""
        with self._database.read() as connection:
            return collected(connection)

    def refuse(self, number: int) -> None:
        """Make sure that a version's weights were not collected. Raises as `refuse_collected`."""
        with self._database.read() as connection:
            refuse_collected(connection, number)

    def last_event(self) -> int:
        """The number of the newest event; 0 in a fresh ledger."""
        with self._database.read() as connection:
            return _last(connection)

    def collect(self, detail: dict[str, Any], *, actor: str, seen: int) -> Event:
        """Write down what is about to be deleted.

        Args:
            detail: `artifacts` and `rows` with their hashes, and the evidence: why each could go.
            actor: who does it.
            seen: the newest event when that was decided.

        Raises:
            ConflictError: something has happened since; nothing was written.
        """
        with self._database.write() as connection:
            if _last(connection) != seen:
                raise ConflictError(
                    "the history has gone on since it was decided what may go", fix="look again at what may go"
                )
            return events.append(connection, COLLECTED, actor, detail)


def refuse_collected(connection: sa.Connection, number: int) -> None:
    """Make sure that a version's weights were not collected.

    Raises:
        InputError: there is no such version.
        NacreError: they were, or those it sits on.
    """
    record = connection.execute(sa.select(version.c.record).where(version.c.number == number)).scalar_one_or_none()
    if record is None:
        raise InputError(f"there is no version {number}", where="ledger", fix="see nacre versions list")
    gone, _ = collected(connection)
    if gone and any(sha in record for sha in gone):  # the artifact, or the one it needs
        raise _removed(connection, number, gone)


def _removed(connection: sa.Connection, number: int, gone: Collection[str]) -> NacreError:
    """The error that says so, with what can be done: what is left of its line decides that."""
    records = dict(connection.execute(sa.select(version.c.number, version.c.record)).all())
    start, steps = number, 0
    while start and any(sha in records[start] for sha in gone):
        parents = orjson.loads(records[start])["parents"]
        start, steps = (parents[0] if parents else 0), steps + 1
    what = "it" if steps == 1 else "its line"
    again = f"nacre evolve with --from {start} trains {what} again{'' if start else ', from the base model'}"
    return NacreError(
        f"the weights of version {number} were removed by nacre gc",
        where=f"version {number}",
        fix=f"its record stays; {again}; or import it from an archive",
    )


def collected(connection: sa.Connection) -> tuple[frozenset[str], frozenset[str]]:
    """See `Keeping.collected`."""
    found = _of_kinds(connection, (COLLECTED,))
    if not found:
        return frozenset(), frozenset()  # as in most ledgers, most of the time
    artifacts: set[str] = set()
    rows: set[str] = set()
    for one in _of_kinds(connection, (COLLECTED, REGISTERED)):
        if one.kind == COLLECTED:
            artifacts.update(one.detail.get("artifacts", ()))
            rows.update(one.detail.get("rows", ()))
        else:
            artifacts.difference_update((one.detail.get("artifact"), one.detail.get("needs")))
            rows.difference_update(one.detail.get("rows", ()))
    return frozenset(artifacts), frozenset(rows)


def brought(added: Version) -> dict[str, Any]:
    """For the event `registered`: all that is here again with a version, should it ever have been collected."""
    files = [added.snapshot.replayable, added.snapshot.dev]
    files += [file for one in added.inherited for file in (one.train, one.dev)]
    rows = sorted({file.sha256 for file in files if file is not None})
    return {"artifact": added.artifact, "needs": added.needs, "rows": rows}


def _pins(connection: sa.Connection) -> dict[int, str]:
    found: dict[int, str] = {}
    for one in _of_kinds(connection, (PINNED, UNPINNED)):
        if one.kind == PINNED:
            found[one.detail["version"]] = one.detail["why"]
        else:
            found.pop(one.detail["version"], None)
    return found


def _last(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.max(event.c.id))).scalar() or 0


def _of_kinds(connection: sa.Connection, kinds: Collection[str]) -> list[Event]:
    """The events of some kinds, oldest first."""
    unnamed = sa.or_(*(event.c.record.contains(f'"kind":"{kind}"', autoescape=True) for kind in kinds))
    wanted = sa.or_(event.c.kind.in_(kinds), sa.and_(event.c.kind.is_(None), unnamed))
    records = connection.execute(sa.select(event.c.record).where(wanted).order_by(event.c.id)).scalars()
    return [one for one in map(events.read, records) if one.kind in kinds]

"""Made-up rows that wait for a person, in the ledger's table of what is to be reviewed."""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.base.clock import now
from nacre.base.errors import InputError, unknown
from nacre.records.draft import Draft
from nacre.records.example import Example
from nacre.registry.database import Database
from nacre.registry.tables import review

PREFIX = "draft/"  # queues of answers that people compare have no such name


class Drafts:
    """Drafts of one ledger. Every write is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, drafts: Sequence[Draft]) -> int:
        """Put drafts into their queues, all or none; those that their queue holds already are left out."""
        added = 0
        with self._database.write() as connection:
            held = {(one.queue, one.row.content_id) for one in _drafts(connection, None)}
            for one in drafts:
                if (one.queue, one.row.content_id) not in held:
                    values = {"queue": f"{PREFIX}{one.queue}", "status": one.status, "created": one.created}
                    connection.execute(review.insert().values(values | {"record": one.to_json()}))
                    added += 1
        return added

    def queues(self) -> list[str]:
        """The names of all queues, the oldest first."""
        return list(dict.fromkeys(one.queue for one in self.drafts()))

    def drafts(self, queue: str | None = None) -> list[Draft]:
        """Every draft, or those of a queue, oldest first.

        Raises:
            InputError: there is no such queue.
        """
        with self._database.read() as connection:
            found = _drafts(connection, queue)
        if queue is not None and not found:
            known = self.queues()
            if known:
                raise unknown("queue of drafts", queue, known, where="nacre data review")
            fix = "nacre data synthesize makes one"
            raise InputError(f"there is no queue of drafts '{queue}'", where="nacre data review", fix=fix)
        return found

    def decide(self, number: int, status: str, *, by: str, row: Example | None = None) -> Draft:
        """Accept or reject an open draft, perhaps as the person corrected it.

        Raises:
            InputError: there is no such draft, or it was decided before.
        """
        with self._database.write() as connection:
            draft = _draft(connection, number)
            if draft.status != "open":
                fix = "leave it: a decision is not changed afterwards"
                raise InputError(f"draft {number} was {draft.status} by {draft.by}", where="nacre data review", fix=fix)
            edited = row is not None and row.content_id != draft.row.content_id
            changed = draft.changed(
                status=status, by=by, time=now(), row=(row or draft.row).model_dump(), edited=edited
            )
            _write(connection, changed)
            return changed

    def mark_written(self, numbers: Sequence[int], file: str) -> None:
        """Remember where accepted drafts were written to, all or none."""
        with self._database.write() as connection:
            for number in numbers:
                _write(connection, _draft(connection, number).changed(written=file))


def _drafts(connection: sa.Connection, queue: str | None) -> list[Draft]:
    query = sa.select(review.c.id, review.c.record).order_by(review.c.id)
    if queue is None:
        query = query.where(review.c.queue.startswith(PREFIX, autoescape=True))
    else:
        query = query.where(review.c.queue == f"{PREFIX}{queue}")
    return [Draft.from_json(row.record).changed(id=row.id) for row in connection.execute(query)]


def _draft(connection: sa.Connection, number: int) -> Draft:
    query = sa.select(review.c.record).where(review.c.id == number, review.c.queue.startswith(PREFIX, autoescape=True))
    text = connection.execute(query).scalar_one_or_none()
    if text is None:
        fix = "take the numbers from nacre data review --json"
        raise InputError(f"there is no draft {number}", where="nacre data review", fix=fix)
    return Draft.from_json(text).changed(id=number)


def _write(connection: sa.Connection, draft: Draft) -> None:
    values = {"status": draft.status, "record": draft.to_json()}
    connection.execute(review.update().where(review.c.id == draft.id).values(values))

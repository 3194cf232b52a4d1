"""The queue of answers that wait for a person, and what people said, in the ledger."""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.base.errors import InputError, unknown
from nacre.records.review import Opinion, ReviewItem
from nacre.registry.database import Database
from nacre.registry.drafts import PREFIX as DRAFTS
from nacre.registry.tables import review

_LARGEST = 2**63 - 1


class Reviews:
    """Review items of one ledger. Every write is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, items: Sequence[ReviewItem]) -> list[ReviewItem]:
        """Put items into their queues, all or none; a row that its queue holds already is left out.

        Returns:
            Those that were added, with their numbers.
        """
        added = []
        with self._database.write() as connection:
            held = {_row_of(item) for queue in {item.queue for item in items} for item in _items(connection, queue)}
            for item in items:
                if _row_of(item) not in held:
                    values = {"queue": item.queue, "status": item.status, "created": item.created}
                    insert = review.insert().values(values | {"record": item.to_json()}).returning(review.c.id)
                    added.append(item.changed(id=connection.execute(insert).scalar_one()))
        return added

    def queues(self) -> list[str]:
        """The names of all queues, the oldest first."""
        query = sa.select(review.c.queue).where(~review.c.queue.startswith(DRAFTS, autoescape=True))
        query = query.group_by(review.c.queue).order_by(sa.func.min(review.c.id))
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def items(self, queue: str) -> list[ReviewItem]:
        """Every item of a queue, in the order in which they are asked.

        Raises:
            InputError: there is no such queue.
        """
        with self._database.read() as connection:
            found = _items(connection, queue)
        if not found:
            raise _no_queue(queue, self.queues())
        return found

    def next_for(self, queue: str, rater: str) -> ReviewItem | None:
        """The first open item of a queue that this person has not answered; None when there is none left."""
        waiting = [item for item in self.items(queue) if item.status == "open"]
        return next((item for item in waiting if rater not in {one.rater for one in item.opinions}), None)

    def item(self, number: int) -> ReviewItem:
        """One item.

        Raises:
            InputError: there is none of that number.
        """
        with self._database.read() as connection:
            return _item(connection, number)

    def answer(self, given: Sequence[tuple[int, Opinion]]) -> int:
        """Keep opinions on items, all or none; what is known already (same person, same choice) is not added again.

        Returns:
            How many were new.

        Raises:
            InputError: an item that is not there, a choice it does not have, or one that this person made otherwise
                before; nothing was written.
        """
        new = 0
        with self._database.write() as connection:
            for number, opinion in given:
                item = _item(connection, number)
                changed = _answered(item, opinion)
                if changed is not item:
                    new += 1
                    values = {"status": changed.status, "record": changed.to_json()}
                    connection.execute(review.update().where(review.c.id == number).values(values))
        return new


def _answered(item: ReviewItem, opinion: Opinion) -> ReviewItem:
    """The item with one opinion more; itself where it has that one."""
    where = f"review item {item.id}"
    if item.status == "equal":
        fix = "leave it: both answers are the same text"
        raise InputError(f"item {item.id} is not asked", where=where, fix=fix)
    if opinion.choice not in item.choices:
        raise unknown("choice", opinion.choice, item.choices, where=where)
    before = next((one for one in item.opinions if one.rater == opinion.rater), None)
    if before is not None:
        if before.choice == opinion.choice:
            return item
        raise InputError(
            f"{opinion.rater} chose '{before.choice}' for item {item.id} before, and now '{opinion.choice}'",
            where=where,
            fix="keep the first choice: an opinion is not changed afterwards",
        )
    changed = item.changed(opinions=(*item.opinions, opinion))
    # skipped is answered too: it is not put before the same person again, but before another one
    done = len(changed.counted) >= item.raters
    return changed.changed(status="answered") if done else changed


def _items(connection: sa.Connection, queue: str) -> list[ReviewItem]:
    query = sa.select(review.c.id, review.c.record).where(review.c.queue == queue).order_by(review.c.id)
    return [ReviewItem.from_json(row.record).changed(id=row.id) for row in connection.execute(query)]


def _item(connection: sa.Connection, number: int) -> ReviewItem:
    query = sa.select(review.c.record).where(review.c.id == number)
    # beyond that no database has a number
    text = connection.execute(query).scalar_one_or_none() if 0 < number <= _LARGEST else None
    if text is None:
        fix = "take the numbers from nacre review next, or from nacre review export"
        raise InputError(f"there is no review item {number}", where="review", fix=fix)
    return ReviewItem.from_json(text).changed(id=number)


def _row_of(item: ReviewItem) -> tuple[str, str, int]:
    return item.queue, item.dev, item.place


def _no_queue(queue: str, known: Sequence[str]) -> InputError:
    if known:
        return unknown("review queue", queue, known, where="review")
    fix = "nacre review add OLD NEW --task TASK --items 50 makes one"
    return InputError(f"there is no review queue '{queue}'", where="review", fix=fix)

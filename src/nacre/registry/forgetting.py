"""Rows that leave for good: one event of the history, and in the same transaction all that the ledger says of them."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.records import Dropped, Event, Report, Verdict, Version
from nacre.records.forgotten import Forgotten
from nacre.records.review import ReviewItem
from nacre.registry import events
from nacre.registry.database import Database
from nacre.registry.tables import event, report, review, verdict, version

FORGOTTEN = "forgotten"


class Forgetting:
    """What was removed, and removing it from the ledger's tables. The history itself is never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def forget(
        self,
        files: Sequence[Forgotten],
        *,
        tasks: Sequence[str],
        unusable: Callable[[Dropped], bool],
        detail: dict[str, Any],
        actor: str,
        drafts: Sequence[int] = (),
    ) -> tuple[Event, dict[str, int]]:
        """Write down what is removed, and remove what the ledger itself says of it.

        Reports on files that lost rows go (they hold an answer to each row, and are made again when they are needed),
        review items about the rows too; verdicts on the tasks keep their numbers and lose the texts of single rows;
        versions keep place and reason of rows that could not be used, and lose the texts of those that match.

        Args:
            files: which lost which rows.
            tasks: names of the tasks whose dev rows are among them.
            unusable: whether a row that could not be used matches.
            detail: more for the event.
            actor: who does it.
            drafts: numbers of drafts, whose rows are among them.

        Returns:
            The event, and how many reports, review items, drafts, verdicts and unusable rows were touched.
        """
        gone = {one.sha256: set(one.places) for one in files}
        with self._database.write() as connection:
            counts = {
                "reports": _reports(connection, gone),
                "review items": _items(connection, gone),
                "drafts": _drafts(connection, drafts),
                "verdicts": _verdicts(connection, set(tasks)),
                "unusable rows": _unusable(connection, unusable),
            }
            told = detail | {"files": [one.model_dump(mode="json") for one in files], "ledger": counts}
            done = events.append(connection, FORGOTTEN, actor, told)
        self._database.settle()
        return done, counts

    def events(self) -> list[Event]:
        """Every removal, oldest first."""
        query = sa.select(event.c.record).where(event.c.kind == FORGOTTEN).order_by(event.c.id)
        with self._database.read() as connection:
            return [Event.from_json(text) for text in connection.execute(query).scalars()]

    def files(self) -> list[Forgotten]:
        """Every file that lost rows, in the order in which that happened."""
        return [Forgotten.model_validate(one) for event in self.events() for one in event.detail["files"]]


def _reports(connection: sa.Connection, gone: dict[str, set[int]]) -> int:
    keys = [
        row.key
        for row in connection.execute(sa.select(report.c.key, report.c.record))
        if any(sha in row.record for sha in gone) and Report.from_json(row.record).dev in gone
    ]
    for key in keys:
        connection.execute(report.delete().where(report.c.key == key))
    return len(keys)


def _items(connection: sa.Connection, gone: dict[str, set[int]]) -> int:
    count = 0
    for row in connection.execute(sa.select(review.c.id, review.c.record)).all():
        if any(sha in row.record for sha in gone):
            item = ReviewItem.from_json(row.record)
            if item.place in gone.get(item.dev, ()):
                connection.execute(review.delete().where(review.c.id == row.id))
                count += 1
    return count


def _drafts(connection: sa.Connection, numbers: Sequence[int]) -> int:
    for number in numbers:
        connection.execute(review.delete().where(review.c.id == number))
    return len(numbers)


def _verdicts(connection: sa.Connection, tasks: set[str]) -> int:
    count = 0
    for row in connection.execute(sa.select(verdict.c.id, verdict.c.record)).all() if tasks else ():
        found = Verdict.from_json(row.record)
        blank = {"prompt": "", "answer_before": "", "answer_after": ""}
        changed = found.changed(
            tasks=tuple(
                one.changed(flips=tuple(flip.changed(**blank) for flip in one.flips)) if one.task in tasks else one
                for one in found.tasks
            )
        )
        if changed != found:
            connection.execute(verdict.update().where(verdict.c.id == row.id).values(record=changed.to_json()))
            count += 1
    return count


def _unusable(connection: sa.Connection, matches: Callable[[Dropped], bool]) -> int:
    count = 0
    for row in connection.execute(sa.select(version.c.number, version.c.record)).all():
        found = Version.from_json(row.record)
        hits = [one for one in found.snapshot.dropped if one.original and matches(one)]
        if hits:
            dropped = tuple(
                one.changed(original="", original_base64="") if one in hits else one for one in found.snapshot.dropped
            )
            record = found.changed(snapshot=found.snapshot.changed(dropped=dropped)).to_json()
            connection.execute(version.update().where(version.c.number == row.number).values(record=record))
            count += len(hits)
    return count

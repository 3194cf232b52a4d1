"""How people use what is served: their requests and opinions, narrow rows in order; and removing them again."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa

from nacre.base.errors import InputError
from nacre.records import Event, Feedback, FeedbackStatus, Interaction
from nacre.registry import conversations, events
from nacre.registry.database import Database
from nacre.registry.tables import feedback, interaction

_ROWS = 5000  # fetched at a time
_AT_ONCE = 500  # ids in one statement
_QUESTION = 500  # characters of a question that are compared

EXPIRED, IMPORTED, PERSON_FORGOTTEN = "expired", "feedback imported", "person forgotten"


class Use(NamedTuple):
    """One answer that a user got, and what was asked last for it."""

    time: str
    version: int
    arm: str
    session: str
    prompt: str
    finish: str
    latency_s: float
    first_token_s: float | None
    question: str


class Said(NamedTuple):
    """One opinion, on whose answer, by whom. `rival` is version and arm of the answer it was compared with."""

    interaction: str
    version: int
    arm: str
    kind: str
    value: float | None
    person: str
    source: str
    other: str
    rival: tuple[int, str] | None


class Person(NamedTuple):
    """What the ledger holds of one person: ids of answers, numbers of opinions, increments made of these."""

    interactions: tuple[str, ...]
    feedback: tuple[int, ...]
    increments: tuple[str, ...]


class Usage:
    """Reads requests and opinions, and deletes them where they are too old or a person wants it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def answers(self, since: str = "") -> Iterator[Iterator[Use]]:
        """Answers to users (no shadow's) since a time, each session's together and in order of time."""
        query = sa.select(interaction.c.record, interaction.c.session, interaction.c.prompt)
        query = query.where(interaction.c.arm != "shadow", interaction.c.time >= since)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(interaction.c.session, interaction.c.time)).yield_per(_ROWS)
            yield (_use(orjson.loads(row.record), row.session, row.prompt) for row in rows)

    def opinions(self, since: str = "") -> list[Said]:
        """Opinions of people, oldest first, on answers since a time; without rejected ones and judges' scores."""
        rival = interaction.alias("rival")
        record = feedback.c.record
        query = sa.select(record, interaction.c.version, interaction.c.arm).select_from(
            feedback.join(interaction, feedback.c.interaction == interaction.c.id)
        )
        query = query.where(interaction.c.time >= since, feedback.c.kind != "score", feedback.c.status != "rejected")
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(feedback.c.id)).yield_per(_ROWS)
            found = [(orjson.loads(row.record), row.version, row.arm) for row in rows]
            others = sorted({said["other"] for said, _, _ in found if said.get("other")})
            rivals: dict[str, tuple[int, str]] = {}
            for place in range(0, len(others), _AT_ONCE):
                asked = sa.select(rival.c.id, rival.c.version, rival.c.arm)
                asked = asked.where(rival.c.id.in_(others[place : place + _AT_ONCE]))
                rivals |= {row.id: (row.version, row.arm) for row in connection.execute(asked)}
        return [_said(said, version, arm, rivals) for said, version, arm in found]

    def newest_opinions(self, most: int, status: FeedbackStatus | None = None) -> list[Feedback]:
        """The newest opinions, or those of one status, newest first."""
        with self._database.read() as connection:
            return conversations.list_feedback(connection, status, most)

    def opinion_counts(self) -> dict[str, int]:
        """How many opinions there are of each status."""
        with self._database.read() as connection:
            return conversations.count_feedback(connection)

    def interactions(self, ids: Iterable[str]) -> dict[str, Interaction]:
        """The answered requests of these ids, as far as they are kept."""
        with self._database.read() as connection:
            return conversations.find_interactions(connection, ids)

    def take(
        self, answers: Sequence[Interaction], opinions: Sequence[Feedback], detail: dict[str, Any], *, actor: str
    ) -> list[int]:
        """Store opinions from elsewhere with the answers that they are about, and the event `feedback imported`.

        All in one transaction, or nothing. Answers that are stored already stay as they are.

        Returns:
            The opinions' numbers, in order.

        Raises:
            InputError: an opinion is about an answer that is not known, or that takes no more.
        """
        with self._database.write() as connection:
            known = conversations.find_interactions(connection, [one.id for one in answers])
            if fresh := [one for one in answers if one.id not in known]:
                conversations.add_interactions(connection, fresh)
            (numbers,) = conversations.add_opinions(connection, [opinions])
            if isinstance(numbers, InputError):
                raise numbers
            events.append(connection, IMPORTED, actor, detail | {"opinions": len(numbers)})
        return numbers

    def expired(self, interactions: str | None, opinions: str | None) -> dict[str, int]:
        """How many answers and opinions are older than these times (None: none is)."""
        with self._database.read() as connection:
            return {name: len(ids) for name, ids in _old(connection, interactions, opinions).items()}

    def expire(self, interactions: str | None, opinions: str | None, *, actor: str, why: str) -> dict[str, int]:
        """Delete answers and opinions that are older than these times; opinions go with their answers.

        One transaction with the event `expired`, which tells counts alone; none where nothing is old.
        """
        with self._database.write() as connection:
            old = _old(connection, interactions, opinions)
            counts = {name: len(ids) for name, ids in old.items()}
            if any(counts.values()):
                _delete(connection, old)
                before = {"interactions": interactions, "feedback": opinions}
                events.append(connection, EXPIRED, actor, {"before": before, "deleted": counts, "why": why})
        self._database.settle()
        return counts

    def persons(self) -> set[str]:
        """The hash of everybody who asked or said something and was named by a client."""
        with self._database.read() as connection:
            asked = connection.execute(sa.select(interaction.c.session).distinct()).scalars().all()
            said = connection.execute(sa.select(feedback.c.person).distinct()).scalars().all()
        return {*asked, *said} - {""}

    def of_person(self, person: str) -> Person:
        """What is held of a person: answers to them, their opinions and those of others on their answers."""
        with self._database.read() as connection:
            return _of_person(connection, person)

    def forget_person(self, person: str, detail: dict[str, Any], *, actor: str) -> Event:
        """Delete all of that, in one transaction with the event `person forgotten`."""
        with self._database.write() as connection:
            found = _of_person(connection, person)
            _delete(connection, {"interactions": found.interactions, "feedback": found.feedback})
            counts = {"interactions": len(found.interactions), "feedback": len(found.feedback)}
            event = events.append(connection, PERSON_FORGOTTEN, actor, detail | {"deleted": counts})
        self._database.settle()
        return event


def _use(record: dict[str, Any], session: str, prompt: str) -> Use:
    turns = record["messages"]
    question = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
    return Use(
        record["time"],
        record["version"],
        record["arm"],
        session,
        prompt,
        record["finish"],
        record["latency_s"],
        record.get("first_token_s"),
        question[-_QUESTION:],
    )


def _said(said: dict[str, Any], version: int, arm: str, rivals: dict[str, tuple[int, str]]) -> Said:
    other = said.get("other", "")
    return Said(
        said["interaction"],
        version,
        arm,
        said["kind"],
        said["value"],
        said.get("person", ""),
        said["source"],
        other,
        rivals.get(other),
    )


def _old(connection: sa.Connection, interactions: str | None, opinions: str | None) -> dict[str, Sequence[Any]]:
    answers: Sequence[Any] = ()
    said: set[int] = set()
    if interactions is not None:
        answers = (
            connection.execute(sa.select(interaction.c.id).where(interaction.c.time < interactions)).scalars().all()
        )
        said |= _about(connection, answers)
    if opinions is not None:
        said |= set(connection.execute(sa.select(feedback.c.id).where(feedback.c.time < opinions)).scalars())
    return {"interactions": answers, "feedback": sorted(said)}


def _about(connection: sa.Connection, answers: Sequence[str]) -> set[int]:
    """Numbers of the opinions on these answers."""
    found: set[int] = set()
    for place in range(0, len(answers), _AT_ONCE):
        query = sa.select(feedback.c.id).where(feedback.c.interaction.in_(answers[place : place + _AT_ONCE]))
        found |= set(connection.execute(query).scalars())
    return found


def _of_person(connection: sa.Connection, person: str) -> Person:
    answers = connection.execute(sa.select(interaction.c.id).where(interaction.c.session == person)).scalars().all()
    said = set(connection.execute(sa.select(feedback.c.id).where(feedback.c.person == person)).scalars())
    numbers = sorted(said | _about(connection, answers))
    increments: set[str] = set()
    for place in range(0, len(numbers), _AT_ONCE):
        query = sa.select(feedback.c.increment).where(feedback.c.id.in_(numbers[place : place + _AT_ONCE]))
        increments |= {name for names in connection.execute(query.distinct()).scalars() for name in names.split("+")}
    return Person(tuple(answers), tuple(numbers), tuple(sorted(increments - {""})))


def _delete(connection: sa.Connection, gone: dict[str, Sequence[Any]]) -> None:
    """Opinions first: they refer to answers."""
    for table, name in ((feedback, "feedback"), (interaction, "interactions")):
        for place in range(0, len(gone[name]), _AT_ONCE):
            connection.execute(table.delete().where(table.c.id.in_(gone[name][place : place + _AT_ONCE])))

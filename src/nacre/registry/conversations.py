"""What was asked and answered while serving, and what people said about it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import orjson
import sqlalchemy as sa
from pydantic_core import PydanticSerializationError

from nacre.base.errors import InputError
from nacre.records import Feedback, FeedbackStatus, Interaction
from nacre.registry.tables import feedback, interaction

_AT_ONCE = 500  # ids in one query
Named = TypeVar("Named", str, int)
MOST_OPINIONS = 32  # on one answer: whoever holds its id could else fill the disk with them


def add_interactions(connection: sa.Connection, added: Sequence[Interaction]) -> None:
    """Store answered requests, all or none."""
    columns = ("id", "time", "version", "arm", "session", "prompt")
    rows = [{name: getattr(one, name) for name in columns} | {"record": _text(one)} for one in added]
    try:
        connection.execute(interaction.insert(), rows)
    except sa.exc.IntegrityError:
        raise InputError(
            "an interaction of that id is stored already", fix="give every answer an id of its own"
        ) from None


def _text(one: Interaction) -> str:
    """Its record as JSON: written for each request that is answered, so not sorted, which takes five times as long."""
    try:
        return one.model_dump_json()
    except PydanticSerializationError:  # half a character: the database says so, as for any other record
        return one.to_json()


def find_interaction(connection: sa.Connection, identity: str) -> Interaction | None:
    """The answered request of that id, if it is known."""
    text = connection.execute(sa.select(interaction.c.record).where(interaction.c.id == identity)).scalar_one_or_none()
    return None if text is None else Interaction.from_json(text)


def find_interactions(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Interaction]:
    """The answered requests of these ids, as far as they are known."""
    found: dict[str, Interaction] = {}
    for some in _some(sorted(set(ids) - {""})):
        query = sa.select(interaction.c.id, interaction.c.record).where(interaction.c.id.in_(some))
        found |= {row.id: Interaction.from_json(row.record) for row in connection.execute(query)}
    return found


class NoAnswer(InputError):
    """No answer has the id that an opinion names."""


class TooMany(InputError):
    """An answer takes no more opinions."""


class OtherQuestion(InputError):
    """Two answers that are compared are not known to answer the same question."""


def add_feedback(connection: sa.Connection, opinion: Feedback) -> int:
    """Store one opinion; returns the number it was given."""
    (found,) = add_opinions(connection, [[opinion]])
    if isinstance(found, InputError):
        raise found
    return found[0]


def add_opinions(connection: sa.Connection, groups: Sequence[Sequence[Feedback]]) -> list[list[int] | InputError]:
    """Store groups of opinions, each group whole or, with the reason, not at all. Returns their numbers.

    An opinion that names no person is taken for that of whoever asked, if it comes with the key of the question.
    """
    answers = _asked(connection, {name for group in groups for one in group for name in (one.interaction, one.other)})
    held = _held(connection, {one.interaction for group in groups for one in group})
    rows: list[dict[str, str | float | None]] = []
    results: list[list[int] | InputError] = []
    for group in groups:
        try:
            added = [_row(opinion, answers) for opinion in group]
            more = Counter(opinion.interaction for opinion in group)
            if any(held[name] + count > MOST_OPINIONS for name, count in more.items()):
                raise _too_many()
        except InputError as error:
            results.append(error)
        else:
            results.append(list(range(len(rows), len(rows) + len(added))))
            rows += added
            held += more
    if rows:
        insert = feedback.insert().returning(feedback.c.id, sort_by_parameter_order=True)
        numbers = [int(number) for number in connection.execute(insert, rows).scalars()]
        results = [one if isinstance(one, InputError) else [numbers[place] for place in one] for one in results]
    return results


class _Asked(NamedTuple):
    """What an opinion must know of an answer: who asked, with which key, and the hash of what was asked."""

    session: str
    key: str
    prompt: str


def _asked(connection: sa.Connection, ids: set[str]) -> dict[str, _Asked]:
    columns = (interaction.c.id, interaction.c.session, interaction.c.prompt, interaction.c.record)
    found = {}
    for some in _some(sorted(ids - {""})):
        for row in connection.execute(sa.select(*columns).where(interaction.c.id.in_(some))):
            found[row.id] = _Asked(row.session, str(orjson.loads(row.record).get("key", "")), row.prompt)
    return found


def _held(connection: sa.Connection, ids: set[str]) -> Counter[str]:
    """How many opinions each answer has."""
    found: Counter[str] = Counter()
    for some in _some(sorted(ids)):
        query = sa.select(feedback.c.interaction, sa.func.count()).where(feedback.c.interaction.in_(some))
        for name, count in connection.execute(query.group_by(feedback.c.interaction)):
            found[name] += count
    return found


def _some(names: Sequence[Named]) -> Iterator[Sequence[Named]]:
    """A few hundred at a time: databases bound the values of one query."""
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]


def _row(opinion: Feedback, answers: Mapping[str, _Asked]) -> dict[str, str | float | None]:
    for name in filter(None, (opinion.interaction, opinion.other)):
        if name not in answers:
            raise NoAnswer(
                f"no answer has the id '{name}'",
                where="feedback",
                fix="send the id of an answer this server gave (the `id` of the response)",
            )
    asked = answers[opinion.interaction]
    if opinion.other and (not asked.prompt or asked.prompt != answers[opinion.other].prompt):
        raise OtherQuestion(
            "the two answers are not known to answer the same question",
            where="feedback",
            fix="compare answers to one conversation, both given since answers are kept with the hash of their prompt",
        )
    if not opinion.person and asked.session and opinion.source == asked.key:
        opinion = opinion.model_copy(update={"person": asked.session})
    columns = ("time", "interaction", "kind", "status", "person", "why", "increment")
    return {name: getattr(opinion, name) for name in columns} | {"record": opinion.to_json()}


def _too_many() -> TooMany:
    return TooMany(
        f"this answer has {MOST_OPINIONS} opinions, and takes no more",
        where="feedback",
        fix="the newest of each person and kind counts: say nothing twice",
    )


def list_feedback(
    connection: sa.Connection, status: FeedbackStatus | None, newest: int | None = None
) -> list[Feedback]:
    """Every opinion, or those of one status, oldest first; or the `newest` so many of them, newest first."""
    read = (feedback.c.id, feedback.c.status, feedback.c.why, feedback.c.increment, feedback.c.record)
    query = sa.select(*read).order_by(feedback.c.id if newest is None else feedback.c.id.desc()).limit(newest)
    if status is not None:
        query = query.where(feedback.c.status == status)
    rows = connection.execute(query)
    columns = ("id", "status", "why", "increment")
    return [Feedback.from_json(row.record).changed(**{name: getattr(row, name) for name in columns}) for row in rows]


def count_feedback(connection: sa.Connection) -> dict[str, int]:
    """How many opinions there are of each status."""
    query = sa.select(feedback.c.status, sa.func.count()).group_by(feedback.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}


def mark_feedback(
    connection: sa.Connection, ids: Sequence[int], status: FeedbackStatus, *, why: str = "", increment: str = ""
) -> None:
    """Give opinions another status, all or none. An increment joins those that were made of them before, with a +."""
    known = feedback.c.increment
    joined = sa.case((known == "", increment), else_=known + f"+{increment}") if increment else known
    values = {"status": status, "why": why, "increment": joined}
    for some in _some(list(dict.fromkeys(ids))):
        changed = connection.execute(feedback.update().where(feedback.c.id.in_(some)).values(values))
        if changed.rowcount < len(some):
            there = set(connection.execute(sa.select(feedback.c.id).where(feedback.c.id.in_(some))).scalars())
            raise InputError(
                f"no feedback has the number {next(one for one in some if one not in there)}; nothing was changed",
                where="feedback",
                fix="take the numbers from the list of feedback",
            )

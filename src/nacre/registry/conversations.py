"""What was asked and answered while serving, and what people said about it."""

from collections.abc import Sequence

import sqlalchemy as sa

from nacre.base.errors import InputError
from nacre.records import Feedback, FeedbackStatus, Interaction
from nacre.registry.tables import feedback, interaction

MOST_OPINIONS = 32  # on one answer: whoever holds its id could else fill the disk with them


def add_interactions(connection: sa.Connection, added: Sequence[Interaction]) -> None:
    """Store answered requests, all or none."""
    columns = ("id", "time", "version", "arm", "session", "prompt")
    rows = [{name: getattr(one, name) for name in columns} | {"record": one.to_json()} for one in added]
    try:
        connection.execute(interaction.insert(), rows)
    except sa.exc.IntegrityError:
        raise InputError(
            "an interaction of that id is stored already", fix="give every answer an id of its own"
        ) from None


def find_interaction(connection: sa.Connection, identity: str) -> Interaction | None:
    """The answered request of that id, if it is known."""
    text = connection.execute(sa.select(interaction.c.record).where(interaction.c.id == identity)).scalar_one_or_none()
    return None if text is None else Interaction.from_json(text)


def add_feedback(connection: sa.Connection, opinion: Feedback) -> int:
    """Store one opinion; returns the number it was given."""
    if find_interaction(connection, opinion.interaction) is None:
        raise InputError(
            f"no answer has the id '{opinion.interaction}'",
            where="feedback",
            fix="send the id of an answer this server gave (the `id` of the response)",
        )
    held = sa.select(sa.func.count()).where(feedback.c.interaction == opinion.interaction)
    if connection.execute(held).scalar_one() >= MOST_OPINIONS:
        raise InputError(
            f"this answer has {MOST_OPINIONS} opinions, and takes no more",
            where="feedback",
            fix="the first of each kind counts, or the newest correction: say nothing twice",
        )
    columns = ("time", "interaction", "kind", "status", "person", "why", "increment")
    values = {name: getattr(opinion, name) for name in columns}
    added = feedback.insert().values(values | {"record": opinion.to_json()}).returning(feedback.c.id)
    return int(connection.execute(added).scalar_one())


def list_feedback(connection: sa.Connection, status: FeedbackStatus | None) -> list[Feedback]:
    """Every opinion, or those of one status, oldest first."""
    read = (feedback.c.id, feedback.c.status, feedback.c.why, feedback.c.increment, feedback.c.record)
    query = sa.select(*read).order_by(feedback.c.id)
    if status is not None:
        query = query.where(feedback.c.status == status)
    rows = connection.execute(query)
    columns = ("id", "status", "why", "increment")
    return [Feedback.from_json(row.record).changed(**{name: getattr(row, name) for name in columns}) for row in rows]


def mark_feedback(
    connection: sa.Connection, ids: Sequence[int], status: FeedbackStatus, *, why: str = "", increment: str = ""
) -> None:
    """Give opinions another status, all or none."""
    values = {"status": status, "why": why, "increment": increment}
    for identity in ids:
        changed = connection.execute(feedback.update().where(feedback.c.id == identity).values(values))
        if changed.rowcount == 0:
            raise InputError(
                f"no feedback has the number {identity}; nothing was changed",
                where="feedback",
                fix="take the numbers from the list of feedback",
            )

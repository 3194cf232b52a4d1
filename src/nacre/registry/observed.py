"""What serving has seen of a rollout: one query for each kind of observation, narrow rows, in order.

An answer is an `interaction` row. Its `arm` is the slot that answered: champion, challenger (the canary) or shadow.
The shadow's answer names the champion's answer to the same request in `twin`. Its `session` is whom the routes asked
`Rollout.takes` about; where it is empty they asked about the answer's own id. An opinion is a `feedback` row.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from nacre.records.feedback import Interaction
from nacre.records.release import Rollout
from nacre.registry.database import Database
from nacre.registry.tables import feedback, interaction

_ROWS = 5000  # fetched at a time


class Answered(NamedTuple):
    """An answer that a user got while the canary ran: from which arm, to whom, how it ended and how long it took."""

    id: str
    time: str
    new: bool
    unit: str
    finish: str
    latency_s: float
    prompt: str = ""


class Opinion(NamedTuple):
    """What was said of an answer, from 0 (bad) to 1 (good)."""

    interaction: str
    new: bool
    score: float


class Opinions(list[Opinion]):
    """Opinions that count, and how many do not because one person, or one key, had given enough."""

    beyond_person = 0
    beyond_key = 0


class Pair(NamedTuple):
    """One request that both versions answered: the champion's side first.

    Attributes:
        scores: what one and the same source said of both answers, from 0 to 1; None where none has spoken of both.
            Corrections of the champion's answer do not count: they are written where the champion was wrong, so a
            comparison on them would flatter the new version.
    """

    ids: tuple[str, str]
    finishes: tuple[str, str]
    scores: tuple[float, float] | None


class Observed:
    """Reads what happened to a rollout's requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def answers(self, rollout: Rollout) -> list[Answered]:
        """The canary's and the champion's answers since they are compared, in the order in which they ended."""
        if not rollout.periods:
            return []
        with self._database.read() as connection:
            record = interaction.c.record
            query = sa.select(
                interaction.c.id,
                interaction.c.time,
                interaction.c.arm,
                interaction.c.session,
                interaction.c.prompt,
                _text(connection, record, "finish").label("finish"),
                _number(connection, record, "latency_s").label("latency_s"),
            ).where(_in_the_canary(rollout))
            rows = connection.execute(query.order_by(interaction.c.time, interaction.c.id)).yield_per(_ROWS)
            return [
                Answered(
                    row.id,
                    row.time,
                    row.arm == "challenger",
                    row.session or row.id,
                    row.finish,
                    float(row.latency_s),
                    row.prompt,
                )
                for row in rows
            ]

    def opinions(self, rollout: Rollout) -> Opinions:
        """What people said of those answers, in the order in which they began to speak.

        One opinion an answer: that of whoever spoke of it first, in the kind they chose first (stars, a thumb, a
        correction), and of this the newest. Of one person the first `per_person` answers count. Of a key that names no
        people the first `per_key` count, and then as many as everybody else has given: where nobody else speaks, all.
        What counts is decided by what was said before alone, so that the tests hold at every look.
        """
        found: dict[str, _Voice] = {}
        if rollout.periods:
            with self._database.read() as connection:
                query = sa.select(
                    feedback.c.interaction,
                    interaction.c.arm,
                    feedback.c.kind,
                    feedback.c.person,
                    _text(connection, feedback.c.record, "source").label("source"),
                    _value(connection),
                ).select_from(feedback.join(interaction, feedback.c.interaction == interaction.c.id))
                of_users = sa.and_(_in_the_canary(rollout), feedback.c.kind != "score")  # a judge's are of pairs
                query = query.where(of_users, feedback.c.status != "rejected").order_by(feedback.c.id)
                for row in connection.execute(query).yield_per(_ROWS):
                    score = _score(row.kind, row.value)
                    if score is None:
                        continue
                    said = Opinion(row.interaction, row.arm == "challenger", score)
                    voice = _Voice(said, row.person, row.source, row.kind)
                    first = found.setdefault(row.interaction, voice)
                    if first[1:] == voice[1:]:
                        found[row.interaction] = voice
        return _capped(found.values(), rollout)

    def latest(self, limit: int) -> list[Interaction]:
        """The last answers that users got here, newest first."""
        query = sa.select(interaction.c.record).where(interaction.c.arm.not_in(("shadow", "imported")))
        with self._database.read() as connection:
            texts = connection.execute(query.order_by(interaction.c.time.desc()).limit(limit)).scalars()
            return [Interaction.from_json(text) for text in texts]

    def pairs(self, rollout: Rollout) -> list[Pair]:
        """Requests that both the champion and the shadow answered, in order of time."""
        champion = interaction.alias("champion")
        with self._database.read() as connection:
            said = _said_of_pairs(connection, rollout)
            query = sa.select(
                interaction.c.id.label("new_id"),
                champion.c.id.label("old_id"),
                _text(connection, interaction.c.record, "finish").label("new_finish"),
                _text(connection, champion.c.record, "finish").label("old_finish"),
            ).select_from(interaction.join(champion, champion.c.id == _text(connection, interaction.c.record, "twin")))
            query = query.where(_in_the_shadow(rollout)).order_by(interaction.c.time, interaction.c.id)
            return [
                Pair(
                    ids=(row.old_id, row.new_id),
                    finishes=(row.old_finish, row.new_finish),
                    scores=_both(said.get(row.old_id, {}), said.get(row.new_id, {})),
                )
                for row in connection.execute(query).yield_per(_ROWS)
            ]


class _Voice(NamedTuple):
    """An opinion, and who speaks: the person, the key, and in which kind."""

    opinion: Opinion
    person: str
    source: str
    kind: str


def _capped(voices: Iterable[_Voice], rollout: Rollout) -> Opinions:
    """Those of each person and each key up to their caps, in order."""
    found = Opinions()
    persons: Counter[str] = Counter()
    keys: Counter[str] = Counter()  # opinions without a person
    cap = rollout.plan.per_key
    for voice in voices:
        if voice.person:
            if persons[voice.person] >= rollout.plan.per_person:
                found.beyond_person += 1
                continue
            persons[voice.person] += 1
        else:
            mine = keys[voice.source]
            others = len(found) - mine
            if cap is not None and mine >= cap and 0 < others <= mine:
                found.beyond_key += 1
                continue
            keys[voice.source] += 1
        found.append(voice.opinion)
    return found


def _in_the_canary(rollout: Rollout) -> sa.ColumnElement[bool]:
    arms = sa.or_(
        sa.and_(interaction.c.arm == "challenger", interaction.c.version == rollout.version),
        sa.and_(interaction.c.arm == "champion", interaction.c.version == rollout.champion),
    )
    return sa.and_(interaction.c.time >= rollout.compared_since, arms)


def _in_the_shadow(rollout: Rollout) -> sa.ColumnElement[bool]:
    return sa.and_(
        interaction.c.arm == "shadow", interaction.c.version == rollout.version, interaction.c.time >= rollout.created
    )


def _said_of_pairs(connection: sa.Connection, rollout: Rollout) -> dict[str, dict[str, float]]:
    """First scores by answer and source, of what the champion and the shadow answered since the rollout began."""
    said: dict[str, dict[str, float]] = {}
    source = _text(connection, feedback.c.record, "source").label("source")
    query = (
        sa.select(feedback.c.interaction, feedback.c.kind, _value(connection), source)
        .select_from(feedback.join(interaction, feedback.c.interaction == interaction.c.id))
        .where(interaction.c.time >= rollout.created, interaction.c.arm.in_(("champion", "shadow")))
        .where(feedback.c.kind.not_in(("correction", "pair")), feedback.c.status != "rejected")
        .order_by(feedback.c.id)
    )
    for row in connection.execute(query).yield_per(_ROWS):
        score = _score(row.kind, row.value)
        if score is not None:
            said.setdefault(row.interaction, {}).setdefault(row.source, score)
    return said


def _both(old: dict[str, float], new: dict[str, float]) -> tuple[float, float] | None:
    source = next((name for name in old if name in new), None)
    return None if source is None else (old[source], new[source])


def _score(kind: str, value: float | None) -> float | None:
    """An opinion from 0 to 1: a correction says that the answer was wrong, a comment alone says nothing."""
    if kind == "correction":
        return 0.0
    if value is None or kind == "pair":  # which of two is better says nothing of how good either is
        return None
    return (float(value) - 1) / 4 if kind == "stars" else float(value)


def _value(connection: sa.Connection) -> sa.ColumnElement[Any]:
    return _number(connection, feedback.c.record, "value").label("value")


def _text(connection: sa.Connection, record: sa.ColumnElement[str], key: str) -> sa.ColumnElement[Any]:
    """A key of a JSON record. PostgreSQL, whose texts hold no NUL, reads a space there."""
    if connection.dialect.name == "sqlite":
        return sa.func.json_extract(record, f"$.{key}")
    readable = sa.func.replace(record, r"\u0000", r"\u0020")  # as long, so that an escaped backslash stays one
    return sa.func.json_extract_path_text(sa.cast(readable, sa.JSON), key)


def _number(connection: sa.Connection, record: sa.ColumnElement[str], key: str) -> sa.ColumnElement[Any]:
    found = _text(connection, record, key)
    return found if connection.dialect.name == "sqlite" else sa.cast(found, sa.Float)

"""Rollouts: one row each, one active at a time. A move of one is a single transaction with its slots and its event.

What a server reads: `active()`, whenever the ledger's generation has risen. Its `state` says whether the version's
answers are only kept (shadow) or given (canary), `weight` and `salt` to whom, and `Rollout.takes` decides it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from nacre.base.clock import now
from nacre.base.errors import ConflictError, InputError, NacreError
from nacre.records import Event
from nacre.records.release import ACTIVE, FINISHED, Action, Rollout, State, moved
from nacre.registry import events, slots
from nacre.registry.database import Database
from nacre.registry.keeping import refuse_collected
from nacre.registry.observed import Observed
from nacre.registry.slots import Note, Slot
from nacre.registry.tables import release


@dataclass(frozen=True)
class Reason:
    """Who moves a rollout, why, and the numbers the decision rests on (they are written into the event)."""

    actor: str
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Releases:
    """The rollouts of one ledger.

    Args:
        verify: hashes the artifact of a version again; raises where it is damaged.

    Attributes:
        observed: what serving has seen of a rollout.
    """

    def __init__(self, database: Database, verify: Callable[[int], None]) -> None:
        self._database, self._verify = database, verify
        self.observed = Observed(database)

    def active(self) -> Rollout | None:
        """The rollout that is under way, if there is one."""
        with self._database.read() as connection:
            return find_active(connection)

    def get(self, identity: int) -> Rollout:
        """The rollout of that number.

        Raises:
            InputError: there is none.
        """
        with self._database.read() as connection:
            return _get(connection, identity)

    def all(self) -> list[Rollout]:
        """Every rollout, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(release.c.id, release.c.record).order_by(release.c.id))
            return [_read(row.id, row.record) for row in rows]

    def start(self, planned: Rollout, reason: Reason) -> Rollout:
        """Store a rollout in state candidate and make its first move.

        Raises:
            InputError: another one is active, there is no such version, or it stands in a slot of champions.
            ConflictError: the champion is not the one that was planned with.
            NacreError: the artifact is missing or damaged; nothing was written.
        """
        number = planned.version
        self._verify(number)
        with self._database.write() as connection:
            _refuse_while_active(connection, f"releasing version {number}")
            taken = slots.read(connection)
            held = next((one for one in taken.values() if one.version == number), None)
            if held is not None and held.name not in slots.TRIALS:
                raise InputError(
                    f"version {number} stands in {held.name}", where=f"slot {held.name}", fix="release another version"
                )
            refuse_collected(connection, number)  # a collection may have come since it was verified
            _expect_champion(taken, planned)
            row = {"version": number, "state": planned.state, "created": planned.created, "record": planned.to_json()}
            added = connection.execute(release.insert().values(row).returning(release.c.id)).scalar_one()
            begun = moved(planned.changed(id=int(added)), "start", time=now(), why=reason.why)
            slots.stand(connection, number, begun.slot, "release started", _note(begun, "start", reason))
            _write(connection, begun)
        return begun

    def move(self, action: Action, reason: Reason, *, expected: Rollout | None = None) -> Rollout:
        """Make a move of the active rollout.

        Args:
            action: see `nacre.records.release.moved`.
            reason: who, why, on which numbers.
            expected: the rollout as it was when the decision was taken; None moves it as it is now.

        Raises:
            InputError: nothing is active, or its state does not allow the move; nothing was written.
            ConflictError: it has changed since; nothing was written.
            NacreError: the artifact of what would become champion is missing or damaged.
        """
        if action in ("promote", "advance") and (found := self.active()) is not None:
            self._verify(found.version)
        with self._database.write() as connection:
            return move(connection, action, reason, expected)


def move(connection: sa.Connection, action: Action, reason: Reason, expected: Rollout | None = None) -> Rollout:
    """`Releases.move` within the caller's transaction; artifacts were verified before."""
    present = find_active(connection)
    if present is None:
        raise InputError("no rollout is active", where="release", fix="`nacre release start N` begins one")
    if expected is not None and (present.id, present.generation) != (expected.id, expected.generation):
        raise ConflictError(
            f"the rollout has changed meanwhile: it is {present.state}, {present.why}; nothing was written",
            where=f"release {present.id}",
            fix="look at `nacre release status` and decide again",
        )
    after = moved(present, action, time=now(), why=reason.why)
    note = _note(after, action, reason)
    if after.state == "champion":
        refuse_collected(connection, after.version)
        slots.promote(connection, after.version, None, _settling(connection, note, "retired", after))
    elif (after.slot, after.weight) != (present.slot, present.weight):
        slots.stand(connection, after.version, after.slot, f"release {_PAST[action]}", note)
    else:
        events.append(
            connection,
            f"release {_PAST[action]}",
            reason.actor,
            {"version": after.version, "why": reason.why, **note.more},
        )
    _write(connection, after)
    return after


def find_active(connection: sa.Connection) -> Rollout | None:
    """The rollout under way, within the caller's transaction."""
    query = sa.select(release.c.id, release.c.record).where(release.c.state.in_(ACTIVE)).order_by(release.c.id)
    row = connection.execute(query).first()
    return None if row is None else _read(row.id, row.record)


def promote(connection: sa.Connection, number: int, expected: int | None, note: Note, *, over: bool) -> Event:
    """`slots.promote` that knows of rollouts: one that is active is ended in the same transaction, where `over` is set.

    Raises:
        InputError: a rollout is active and `over` is not given.
    """
    present = find_active(connection)
    made = None
    if present is not None:
        if not over:
            _refuse_while_active(connection, f"promoting version {number}")
        reason = Reason(note.actor, note.why)
        if present.version == number:
            made = moved(present, "promote", time=now(), why=note.why)
            _write(connection, made)
            note = Note(note.actor, note.why, note.evidence, _note(made, "promote", reason).more)
        else:
            move(connection, "abort", Reason(note.actor, f"version {number} was promoted past it: {note.why}"))
    return slots.promote(connection, number, expected, _settling(connection, note, "retired", made))


def rollback(connection: sa.Connection, to: int, expected: int, note: Note) -> Event:
    """`slots.rollback` that knows of rollouts: one that is active compares with what is taken back, so it ends."""
    if find_active(connection) is not None:
        move(connection, "abort", Reason(note.actor, f"the champion it is compared with was taken back: {note.why}"))
    return slots.rollback(connection, to, expected, _settling(connection, note, "rolled back"))


def before_trial(connection: sa.Connection) -> None:
    """Trial slots belong to the rollout while one is active.

    Raises:
        InputError: one is.
    """
    _refuse_while_active(connection, "moving a trial slot by hand")


def _settling(connection: sa.Connection, note: Note, gone: State, made: Rollout | None = None) -> Note:
    """The note of a move after which every finished rollout says where its version stands; the event names them.

    Args:
        connection: of the move's transaction.
        note: of the move.
        gone: what becomes of a version that leaves the slots.
        made: the rollout that makes the champion, if one does.
    """

    def settle(after: Mapping[str, int]) -> Mapping[str, Any]:
        changed = _settled(connection, after, gone, made, note.why)
        for one in changed:
            _write(connection, one)
        told = [{"id": one.id, "version": one.version, "state": one.state} for one in changed]
        return {"settled": told} if told else {}

    return replace(note, follows=settle)


def _settled(
    connection: sa.Connection, after: Mapping[str, int], gone: State, made: Rollout | None, why: str
) -> list[Rollout]:
    """The finished rollouts whose state changes; of several of one version only the last follows it."""
    query = sa.select(release.c.id, release.c.record).where(release.c.state.in_(FINISHED)).order_by(release.c.id)
    finished = [_read(row.id, row.record) for row in connection.execute(query)]
    finished = [one for one in finished if made is None or one.id != made.id]
    standing: dict[int, State] = {after[name]: "previous" for name in slots.PREVIOUS if name in after}
    standing |= {after[slots.CHAMPION]: "champion"} if slots.CHAMPION in after else {}
    last = {one.version: one.id for one in finished} | ({made.version: made.id} if made else {})
    found = []
    for one in finished:
        left = gone if one.state in ("champion", "previous") else one.state
        state = standing.get(one.version, left) if last[one.version] == one.id else left
        if state != one.state:
            told = _because(state, gone, after[slots.CHAMPION], why)
            found.append(one.changed(state=state, generation=one.generation + 1, why=told))
    return found


def _because(state: State, gone: State, champion: int, why: str) -> str:
    """What a finished rollout says of a move: the mover's words where they are about its own version."""
    if state in ("previous", "retired"):
        return f"version {champion} became champion: {why}"
    if state == "champion" and gone == "rolled back":
        return f"the champion after it was taken back: {why}"
    return why


def check(connection: sa.Connection, taken: Mapping[str, Slot]) -> None:
    """What every move keeps true of rollouts and slots.

    Raises:
        NacreError: two rollouts are active, or a rollout's version does not stand where its state says.
    """
    rows = connection.execute(sa.select(release.c.id, release.c.state, release.c.record)).all()
    found = [(_read(row.id, row.record), row.state) for row in rows]
    faults = [f"rollout {one.id} is {one.state} and filed as {state}" for one, state in found if one.state != state]
    active = [one for one, _ in found if one.active]
    if len(active) > 1:
        faults.append(f"rollouts {', '.join(str(one.id) for one in active)} are active at once")
    held = {name: slot.version for name, slot in taken.items()}
    for one, _ in found:
        if one.active and (held.get(one.slot or "") != one.version or held.get(slots.CHAMPION) != one.champion):
            faults.append(f"rollout {one.id} is {one.state}, but the slots are {held}")
        if one.state == "champion" and held.get(slots.CHAMPION) != one.version:
            faults.append(f"rollout {one.id} made version {one.version} champion, but the slots are {held}")
    if faults:
        fix = "somebody wrote to the ledger by hand: restore a backup"
        raise NacreError("; ".join(faults), where="table release", fix=fix)


_PAST: dict[Action, str] = {
    "advance": "advanced",
    "hold": "held",
    "resume": "resumed",
    "approve": "approved",
    "abort": "aborted",
    "promote": "promoted",
}


def _get(connection: sa.Connection, identity: int) -> Rollout:
    text = connection.execute(sa.select(release.c.record).where(release.c.id == identity)).scalar_one_or_none()
    if text is None:
        known = connection.execute(sa.select(release.c.id).order_by(release.c.id)).scalars().all()
        fix = f"known: {', '.join(map(str, known))}" if known else "`nacre release start N` begins one"
        raise InputError(f"there is no rollout {identity}", where="release", fix=fix)
    return _read(identity, text)


def _read(identity: int, text: str) -> Rollout:
    return Rollout.from_json(text).changed(id=identity)


def _write(connection: sa.Connection, changed: Rollout) -> None:
    values = {"state": changed.state, "record": changed.to_json()}
    connection.execute(release.update().where(release.c.id == changed.id).values(values))


def _note(after: Rollout, action: Action, reason: Reason) -> Note:
    told = {
        "id": after.id,
        "version": after.version,
        "action": action,
        "state": after.state,
        "weight": after.weight,
        "evidence": dict(reason.evidence),
    }
    return Note(reason.actor, reason.why, more={"release": told})


def _refuse_while_active(connection: sa.Connection, what: str) -> None:
    present = find_active(connection)
    if present is not None:
        raise InputError(
            f"{what} has to wait: version {present.version} is being released ({present.state})",
            where=f"release {present.id}",
            fix="`nacre release status` shows how far it is; `nacre release abort` ends it",
        )


def _expect_champion(taken: Mapping[str, Slot], planned: Rollout) -> None:
    champion = taken.get(slots.CHAMPION)
    if champion is None or champion.version != planned.champion:
        found = f"version {champion.version}" if champion else "no version"
        raise ConflictError(
            f"the champion has changed meanwhile: it is {found}, not version {planned.champion}; nothing was written",
            where=f"slot {slots.CHAMPION}",
            fix="run the command again",
        )

"""Which version stands where. Every move is one transaction: check, write the slots, append the event."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nacre.base.errors import ConflictError, InputError, NacreError, unknown
from nacre.records import Event
from nacre.registry import events
from nacre.registry.keeping import refuse_collected
from nacre.registry.tables import slot

CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"
PREVIOUS = ("previous-1", "previous-2", "previous-3")
TRIALS = (CHALLENGER, SHADOW)
NAMES = (CHAMPION, *TRIALS, *PREVIOUS)
KNOWLEDGE = "knowledge"  # kind of the event that says which snapshot of the documents beside the model is in use


@dataclass(frozen=True)
class Slot:
    """A slot that is taken.

    Attributes:
        name: champion, challenger, shadow or previous-1 to previous-3.
        version: the version's number.
        generation: the ledger's generation when this slot last changed.
    """

    name: str
    version: int
    generation: int


@dataclass(frozen=True)
class Note:
    """Who moves a version, why, on what evidence (a verdict's digest), and what else the event tells.

    Attributes:
        follows: is told the slots after the move, writes what follows from them, and returns what the event says of it.
    """

    actor: str
    why: str
    evidence: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    follows: Callable[[Mapping[str, int]], Mapping[str, Any]] = lambda _: {}


def read(connection: sa.Connection) -> dict[str, Slot]:
    """The slots that are taken, by name."""
    rows = connection.execute(sa.select(slot.c.name, slot.c.version, slot.c.generation))
    return {row.name: Slot(row.name, row.version, row.generation) for row in rows if row.version is not None}


def generation(connection: sa.Connection) -> int:
    """Rises by one with every move, never falls; 0 in a fresh ledger."""
    return connection.execute(sa.select(sa.func.max(slot.c.generation))).scalar() or 0


def promote(connection: sa.Connection, number: int, expected: int | None, note: Note) -> Event:
    """Make `number` champion; the old champion becomes previous-1 and so on.

    A version stands in one slot only: the promoted one leaves the slot it came from.
    """
    taken = read(connection)
    _expect(taken, expected)
    champion = taken.get(CHAMPION)
    if champion and champion.version == number:
        raise InputError(f"version {number} is the champion already", where=f"slot {CHAMPION}", fix="nothing to do")
    previous = [champion.version] if champion else []
    previous += [old for old in previous_champions(taken) if old != number]
    trials = {name: taken[name].version for name in TRIALS if name in taken and taken[name].version != number}
    return _move(connection, "promoted", taken, _arrange(number, previous, trials), note)


def rollback(connection: sa.Connection, to: int, expected: int, note: Note) -> Event:
    """Make the earlier champion `to` champion again; what came after it leaves the slots."""
    taken = read(connection)
    _expect(taken, expected)
    earlier = previous_champions(taken)
    trials = {name: taken[name].version for name in TRIALS if name in taken}
    return _move(connection, "rolled back", taken, _arrange(to, earlier[earlier.index(to) + 1 :], trials), note)


def place(connection: sa.Connection, name: str, number: int | None, note: Note) -> Event:
    """Put a version into a trial slot (it leaves the other one), or empty the slot with None."""
    if name not in TRIALS:
        raise unknown("trial slot", name, TRIALS)
    taken = read(connection)
    for held in taken.values():
        if held.version == number and held.name not in TRIALS:
            raise InputError(f"version {number} stands in {held.name}", where=f"slot {name}", fix="try another version")
    after = {held.name: held.version for held in taken.values() if held.name != name and held.version != number}
    if number is not None:
        after[name] = number
    return _move(connection, f"{name} {'set' if number is not None else 'emptied'}", taken, after, note)


def stand(connection: sa.Connection, number: int, name: str | None, kind: str, note: Note) -> Event:
    """Put a version that is being released into a trial slot, or out of both with None.

    The slot's generation rises even where the version stays: servers look again, and find another share.
    """
    taken = read(connection)
    after = {held.name: held.version for held in taken.values() if held.version != number and held.name != name}
    if name is not None:
        after[name] = number
    return _move(connection, kind, taken, after, note, touch=name)


def rollback_target(taken: Mapping[str, Slot], to: int | None) -> int:
    """The version a rollback goes to: `to`, or the latest earlier champion.

    Raises:
        InputError: there is no earlier champion, or `to` is none of them.
    """
    earlier = previous_champions(taken)
    if not earlier:
        raise InputError(
            "there is no earlier champion to go back to",
            where=f"slot {PREVIOUS[0]}",
            fix="`nacre versions list` shows every version; `nacre promote N` makes one champion",
        )
    if to is None:
        return earlier[0]
    if to not in earlier:
        known = ", ".join(str(number) for number in earlier)
        raise InputError(
            f"version {to} is none of the last champions",
            where="rollback",
            fix=f"choose among {known}; `nacre promote {to}` makes any version champion",
        )
    return to


def previous_champions(taken: Mapping[str, Slot]) -> list[int]:
    """Version numbers of previous-1 to previous-3, latest first."""
    return [taken[name].version for name in PREVIOUS if name in taken]


def _arrange(champion: int, previous: list[int], trials: Mapping[str, int]) -> dict[str, int]:
    return {CHAMPION: champion, **trials, **dict(zip(PREVIOUS, previous, strict=False))}


def _expect(taken: Mapping[str, Slot], expected: int | None) -> None:
    """Compare-and-swap: the champion must still be the one the decision was based on."""
    champion = taken.get(CHAMPION)
    found = champion.generation if champion else 0
    if expected is not None and expected != found:
        now = f"version {champion.version} since generation {found}" if champion else "no version"
        raise ConflictError(
            f"the champion has changed meanwhile: it is {now}, not of generation {expected}; nothing was written",
            where=f"slot {CHAMPION}",
            fix="look at `nacre versions list` and decide again",
        )


def _move(
    connection: sa.Connection,
    kind: str,
    taken: Mapping[str, Slot],
    after: Mapping[str, int],
    note: Note,
    touch: str | None = None,
) -> Event:
    """Write the slots that differ (and `touch`) under the next generation, and the event that tells it."""
    before = {held.name: held.version for held in taken.values()}
    if before == after and touch is None:
        raise InputError("the slots are so already", where="slots", fix="nothing to do")
    for number in sorted(set(after.values()) - set(before.values())):
        refuse_collected(connection, number)  # between its verification and now a collection may have come
    following = generation(connection) + 1
    rows = set(connection.execute(sa.select(slot.c.name)).scalars())
    for name in NAMES:
        if before.get(name) == after.get(name) and name != touch:
            continue
        values = {"version": after.get(name), "generation": following}
        if name in rows:
            connection.execute(slot.update().where(slot.c.name == name).values(values))
        else:
            connection.execute(slot.insert().values(name=name, **values))
    detail = {
        "from": before.get(CHAMPION),
        "to": after.get(CHAMPION),
        "generation": following,
        "why": note.why,
        "evidence": note.evidence,
        "slots": dict(after),
        "left": sorted(set(before.values()) - set(after.values())),
        **_documents(connection),
        **note.more,
        **note.follows(after),
    }
    return events.append(connection, kind, note.actor, detail)


def _documents(connection: sa.Connection) -> dict[str, Any]:
    """The snapshot of the documents that is in use during a move, where there are documents."""
    try:
        last = events.last(connection, KNOWLEDGE)
    except NacreError:  # a damaged event must not hold up a move; `verify` names it
        return {}
    return {"documents": last.detail["snapshot"]} if last else {}


def consistent(taken: Mapping[str, Slot]) -> None:
    """Check what every move keeps true.

    Raises:
        NacreError: a version stands in two slots, or the previous champions have a gap.
    """
    numbers = [held.version for held in taken.values()]
    held = [name for name in PREVIOUS if name in taken]
    if len(numbers) != len(set(numbers)) or held != list(PREVIOUS[: len(held)]):
        raise NacreError(
            f"the slots contradict each other: { {name: held.version for name, held in taken.items()} }",
            where="slots",
            fix="somebody wrote to the ledger by hand: restore a backup",
        )

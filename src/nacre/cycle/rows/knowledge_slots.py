"""Snapshots of the documents beside the slots: every switch in the history, and the way back to any that is kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nacre.base.errors import InputError
from nacre.base.files import file_lock
from nacre.cycle.rows.knowledge_at import where
from nacre.cycle.workspace import Workspace
from nacre.records import Event
from nacre.registry.slots import KNOWLEDGE, previous_champions, rollback_target
from nacre.serve.knowledge import part
from nacre.serve.knowledge.snapshots import Snapshot, Snapshots

REFUSED = "refused"
BY_HAND = "by hand"


@dataclass(frozen=True)
class Kept:
    """A snapshot that can be put to use.

    Attributes:
        state: `in use`; `before` it; `aside`, left by going back; or `refused`, never put to use by itself.
        since: when it was last put to use, or refused; empty where the history does not say.
        how: by which command.
        asked: numbers of the questions when they were last looked up in it; empty while they never were.
        champions: earlier champions that answered with it last.
    """

    snapshot: Snapshot
    state: str
    since: str
    how: str
    why: str
    asked: tuple[Mapping[str, Any], ...]
    champions: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        held = self.snapshot
        return {
            "snapshot": held.number,
            "state": self.state,
            "created": held.created,
            "since": self.since,
            "how": self.how,
            "why": self.why,
            "documents": len(held.documents),
            "chunks": held.chunks,
            "asked": [dict(one) for one in self.asked],
            "champions": list(self.champions),
        }


@contextmanager
def changing(workspace: Workspace) -> Iterator[Snapshots]:
    """One change of the store at a time; searches go on beside it.

    A switch whose command was killed before it wrote its event is written into the history first.

    Raises:
        NacreError: another command is at work at the store.
    """
    snapshots = Snapshots(where(workspace).folder)
    with file_lock(where(workspace).folder / "lock", wait=False):
        present, told = in_use(workspace), _told(workspace)
        said = told[-1].detail["snapshot"] if told else None
        if present is not None and present != said:
            why = "it was found in use: the command that put it to use was cut off before it wrote this"
            record(workspace, said, snapshots.read(present), "nacre", how="found", why=why)
        yield snapshots


def record(
    workspace: Workspace, before: int | None, present: Snapshot, actor: str, *, how: str, why: str, **more: Any
) -> None:
    """Write into the history what is in use now: numbers and hashes, no words of the documents."""
    champion = workspace.ledger.slot("champion")
    detail = {
        "how": how,
        "why": why,
        "before": before,
        "snapshot": present.number,
        "record": present.digest,
        "documents": len(present.documents),
        "chunks": present.chunks,
        "champion": champion.version if champion else None,
    }
    workspace.ledger.record(KNOWLEDGE, actor, detail | more)


def rollback(workspace: Workspace, *, to: int | None = None, actor: str = "nacre", why: str = BY_HAND) -> Snapshot:
    """Put the snapshot before to use again, or another one that is kept; nothing is looked up before.

    The sources are not touched, so a refresh reads the files as they are now.

    Args:
        workspace: whose store.
        to: number of the snapshot; default: the one before.
        actor: who the history says did it.
        why: one sentence for the history.

    Raises:
        InputError: there is none before, or `to` is not kept or is in use already.
        NacreError: the snapshot cannot be searched; the one in use stays.
    """
    with changing(workspace) as snapshots:
        number = _target(workspace, snapshots, to)
        snapshot = searchable(workspace, number)
        before = snapshots.order()[0]
        snapshots.use(number)
        record(workspace, before, snapshot, actor, how="rollback", why=why)
        return snapshot


def with_champion(workspace: Workspace, to: int | None) -> int | None:
    """The snapshot that the champion a rollback goes to answered with last; None where the history tells of none.

    Args:
        workspace: whose.
        to: number of the earlier champion; default: the one before.

    Raises:
        InputError: there is no such earlier champion.
    """
    return _beside_champions(workspace).get(rollback_target(workspace.ledger.slots(), to))


def searchable(workspace: Workspace, number: int) -> Snapshot:
    """A snapshot that is kept, read and searched once.

    Raises:
        NacreError: its record, its chunks or its embedding model are not there any more.
    """
    snapshot = Snapshots(where(workspace).folder).read(number)
    part("search")(where(workspace), number).warm()
    return snapshot


def _target(workspace: Workspace, snapshots: Snapshots, to: int | None) -> int:
    order, aside = snapshots.order(), snapshots.aside()
    if not order:
        raise InputError("there are no documents yet", where=str(workspace.root), fix="run nacre knowledge add FOLDER")
    if to is None and len(order) < 2:
        fix = "run nacre knowledge refresh; nacre knowledge list shows all that are kept"
        raise InputError("there is no snapshot before", where=f"snapshot {order[0]}", fix=fix)
    if to == order[0]:
        raise InputError(f"snapshot {to} is in use already", where="--to", fix="nothing to do")
    if to is not None and to not in (*order, *aside):
        known = ", ".join(str(number) for number in sorted((*order, *aside)))
        raise InputError(f"snapshot {to} is not kept", where="--to", fix=f"choose among {known}")
    return order[1] if to is None else to


def in_use(workspace: Workspace) -> int | None:
    """The number of the snapshot in use; None while there are no documents."""
    return next(iter(Snapshots(where(workspace).folder).order()), None)


def kept(workspace: Workspace) -> tuple[Kept, ...]:
    """The snapshots that can be put to use, the newest first.

    Raises:
        InputError: there are no documents.
        NacreError: a record cannot be read.
    """
    snapshots = Snapshots(where(workspace).folder)
    order, aside = snapshots.order(), snapshots.aside()
    if not order:
        raise InputError("there are no documents yet", where=str(workspace.root), fix="run nacre knowledge add FOLDER")
    states = dict.fromkeys(order, "before") | dict.fromkeys(aside, "aside") | {order[0]: "in use"}
    put: dict[int, Event] = {}
    asked: dict[int, list[Mapping[str, Any]]] = {}
    for event in _told(workspace):
        detail = event.detail
        number = int(detail["made"] if detail.get("how") == REFUSED else detail["snapshot"])
        put[number] = event
        asked |= {number: detail["asked"]} if "asked" in detail else {}
        asked |= {detail["before"]: detail["asked_before"]} if "asked_before" in detail else {}
    beside = _beside_champions(workspace)
    found = []
    for number in sorted(states, reverse=True):
        last = put.get(number)
        said = last.detail if last else {}
        how = str(said.get("how", ""))
        found.append(
            Kept(
                snapshot=snapshots.read(number),
                state=REFUSED if how == REFUSED and states[number] == "aside" else states[number],
                since=last.time if last else "",
                how=how,
                why=str(said.get("why", "")),
                asked=tuple(asked.get(number, ())),
                champions=tuple(sorted(one for one, held in beside.items() if held == number)),
            )
        )
    return tuple(found)


def pinned(workspace: Workspace) -> frozenset[int]:
    """Snapshots that stay because a champion that can be taken back to answered with them last."""
    return frozenset(_beside_champions(workspace).values())


def _beside_champions(workspace: Workspace) -> dict[int, int]:
    """Snapshots by the numbers of the previous champions: what the move that ended each one's time recorded."""
    earlier = set(previous_champions(workspace.ledger.slots()))
    found: dict[int, int] = {}
    for event in workspace.ledger.events() if earlier else ():
        detail = event.detail
        left = detail.get("from")
        if "slots" in detail and left in earlier and detail["to"] != left and "documents" in detail:
            found[left] = detail["documents"]
    return found


def _told(workspace: Workspace) -> list[Event]:
    return [event for event in workspace.ledger.events() if event.kind == KNOWLEDGE]

"""Removing one person: what they asked, what was said of it, what they said, and the rows that were made of it.

The rows leave first, because the ledger is what tells which are theirs; then the ledger's own, in one transaction with
the event. Killed in between, the same command ends the work.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nacre.base.errors import InputError
from nacre.base.files import file_lock
from nacre.base.hashing import sha256_text
from nacre.cycle.rows import forget as kept_rows
from nacre.cycle.rows.wanted import Wanted
from nacre.cycle.workspace import Workspace
from nacre.feedback.rows import unsigned
from nacre.feedback.voices import IMPORTED
from nacre.registry.usage import Person
from nacre.serve.gateway.keyring import short_id
from nacre.serve.routing import user_of

_WHERE = "nacre feedback forget"
_HASH = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Removal:
    """What was removed, or would be.

    Attributes:
        interactions, feedback: answers and opinions in the ledger.
        increments: names of increments that were made of their opinions.
        versions: version number to how it learned from them, in sentences.
        retrain: what has to be trained again, in order.
        rows: what left the kept rows and review queues; None where none was theirs.
        left: sentences on what stays.
        event: number in the history; None where nothing was written.
    """

    interactions: int
    feedback: int
    increments: tuple[str, ...]
    versions: Mapping[int, tuple[str, ...]]
    retrain: tuple[str, ...] = ()
    rows: kept_rows.Removal | None = None
    left: tuple[str, ...] = ()
    event: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        return {
            "interactions": self.interactions,
            "feedback": self.feedback,
            "increments": list(self.increments),
            "versions": {str(number): list(said) for number, said in self.versions.items()},
            "retrain": list(self.retrain),
            "rows": self.rows.as_dict() if self.rows else None,
            "left": list(self.left),
            "event": self.event,
        }


@dataclass(frozen=True)
class _Theirs(Wanted):
    """Rows that were made of what one person asked or said."""

    person: str = ""
    answers: frozenset[str] = field(default_factory=frozenset)
    opinions: frozenset[str] = field(default_factory=frozenset)

    def _in_columns(self, columns: Mapping[str, str]) -> bool:
        answers = {columns.get(name, "") for name in ("interaction", "file")}
        said = set(columns.get("feedback", "").split(","))
        theirs = columns.get("person") == self.person or bool(said & self.opinions)
        return theirs or bool(answers & self.answers)


def hash_of(workspace: Workspace, user: str, key: str | None = None) -> str:
    """The hash by which the ledger knows a user of a key.

    Args:
        workspace: whose ledger and keys.
        user: as the client named it.
        key: id of the key; empty for none; `import` for people of imported files; None for the one key under which such
            a user is known.

    Raises:
        InputError: nobody, or more than one, is known by that name.
    """
    if not user:
        raise InputError("the user has no name", where=_WHERE, fix="give it as the client does in `user`")
    if key is not None:
        return user_of(key, user)
    ids = [
        "",
        IMPORTED,
        *(held.key.id for held in workspace.ledger.keys.all()),
        *map(short_id, workspace.settings.serve.api_keys),
    ]
    known = workspace.ledger.usage.persons()
    found = [one for one in dict.fromkeys(ids) if user_of(one, user) in known]
    if len(found) == 1:
        return user_of(found[0], user)
    shown = ", ".join(one or "none (--key '')" for one in found)
    raise InputError(
        f"several keys name a user '{user}'" if found else f"no key names a user '{user}' of whom anything is kept",
        where=_WHERE,
        fix=f"say which with --key: {shown}" if found else "check the name; a key that is gone is named with --key",
    )


def forget(workspace: Workspace, person: str, *, dry_run: bool = False, actor: str = "user", why: str = "") -> Removal:
    """Remove everything that is kept of a person.

    Args:
        workspace: whose ledger and memory.
        person: the hash, see `hash_of`.
        dry_run: only say what would happen.
        actor, why: for the history, which is told counts and the SHA-256 of the hash.

    Raises:
        InputError: nothing is kept of that person.
        NacreError: another command is at work here, or a file cannot be written.
    """
    if not _HASH.fullmatch(person):
        raise InputError(
            "this is no person's hash", where=_WHERE, fix="it has 32 hexadecimal characters; or use --user"
        )
    held = workspace.ledger.usage.of_person(person)
    answers = frozenset([*held.interactions, *map(unsigned, held.interactions)])  # rows have ids without signatures
    wanted = _Theirs(person=person, answers=answers, opinions=frozenset(map(str, held.feedback)))
    gone = _rows(workspace, wanted, dry_run=dry_run, actor=actor, why=why)
    if not (held.interactions or held.feedback or gone):
        raise InputError("nothing is kept of that person", where=_WHERE, fix="check name, key or hash")
    versions = _versions(workspace, held, gone)
    retrain = gone.retrain if gone else ()
    removal = Removal(
        len(held.interactions),
        len(held.feedback),
        held.increments,
        versions,
        retrain,
        gone,
        _left(workspace, wanted, gone),
    )
    if dry_run:
        return removal
    detail = {
        "person": sha256_text(person),
        "increments": list(held.increments),
        "versions": sorted(versions),
        "retrain": list(retrain),
        "rows": gone.rows if gone else 0,
        "rows event": gone.event if gone else None,
        "why": why,
    }
    with file_lock(workspace.hidden / "evolve.lock", wait=False):
        event = workspace.ledger.usage.forget_person(person, detail, actor=actor)
    return Removal(**{**vars(removal), "event": event.id})


def _rows(workspace: Workspace, wanted: Wanted, *, dry_run: bool, actor: str, why: str) -> kept_rows.Removal | None:
    """Take the rows out of what is kept; None where there are none."""
    try:
        return kept_rows.forget(workspace, wanted, dry_run=dry_run, actor=actor, why=why)
    except kept_rows.NoRow:
        return None


def _versions(workspace: Workspace, held: Person, gone: kept_rows.Removal | None) -> dict[int, tuple[str, ...]]:
    """How each version learned from them: by the rows that are kept, and by the increments made of their opinions."""
    said = {number: list(lines) for number, lines in (gone.versions if gone else {}).items()}
    for version in workspace.ledger.versions():
        snapshot = version.snapshot
        if set(snapshot.task.split("+")) & set(held.increments):
            line = f"learned an increment made of what they said: snapshot {snapshot.digest[:12]} ({snapshot.task})"
            said.setdefault(version.number, []).append(line)
    return {number: tuple(lines) for number, lines in sorted(said.items())}


def _left(workspace: Workspace, wanted: Wanted, gone: kept_rows.Removal | None) -> tuple[str, ...]:
    copies = sorted(path.name for path in workspace.hidden.glob("ledger.db.schema-*"))
    found = [f"copies of the ledger from before an update may have it: {', '.join(copies)}"] if copies else []
    datasets = gone.datasets if gone else kept_rows.in_datasets(workspace, wanted)
    found += [f"dataset files still have it, and what learns them learns it: {place}" for place in datasets]
    if gone:
        found += gone.left
    return (*found, "a running server may hold what was answered in the last second: run this again when it has ended")

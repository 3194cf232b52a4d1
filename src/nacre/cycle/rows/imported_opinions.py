"""Opinions from files into the ledger: cleaned like those that come in by the API, each once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.base.files import file_lock
from nacre.base.hashing import content_hash
from nacre.cycle.workspace import Workspace
from nacre.feedback.imported import Entry, parse
from nacre.feedback.voices import IMPORTED_ARM, seconds
from nacre.records import Feedback, Interaction
from nacre.registry.conversations import MOST_OPINIONS
from nacre.serve.privacy import Redactor

NO_CONSENT = "its line says that its user did not consent"


@dataclass(frozen=True)
class Imported:
    """How many opinions were taken, how many were known, and what of the file says nothing."""

    added: int
    known: int
    ids: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"added": self.added, "known": self.known, "ids": list(self.ids), "notes": list(self.notes)}


def import_file(
    workspace: Workspace, path: Path, form: str = "auto", *, accept: bool = False, actor: str = "user"
) -> Imported:
    """Take the opinions of a file; those that were taken before are passed over.

    An opinion on an answer that this workspace gave names its response id. For others the question and the answer are
    kept as an interaction of the arm `imported`. All is one transaction: killed in the middle, nothing was taken.

    Args:
        workspace: whose ledger.
        path: the file; see `nacre.feedback.imported.parse` for its formats.
        form: the format, or auto.
        accept: they count, whoever said them.
        actor: for the history.

    Raises:
        InputError: a line cannot be understood, or names an answer that is not kept; nothing was written.
    """
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), fix="check the path")
    present = now()
    parsed = parse(path, form, time=present)
    redactor = Redactor(workspace.settings.serve.privacy.clean)
    made: dict[str, Interaction] = {}
    opinions: list[Feedback] = []
    ids: list[int] = []
    with file_lock(workspace.hidden / "import.lock", wait=False):
        ours = workspace.ledger.usage.interactions(entry.response_id for entry in parsed.entries)
        for entry in parsed.entries:
            opinions += _placed(entry, ours, redactor, made, f"{path}, line {entry.line}")
        before = workspace.ledger.feedback()
        taken = {_key(said) for said in before}
        new = list({_key(said): said for said in opinions if _key(said) not in taken}.values())
        _check_room(before, new, path)
        if new:
            needed = {name for said in new for name in (said.interaction, said.other)}
            answers = [one for one in made.values() if one.id in needed]
            status = "accepted" if accept else "new"
            detail = {"file": path.name, "accepted": accept}
            said_so = [said if said.status == "rejected" else said.changed(status=status) for said in new]
            ids = workspace.ledger.usage.take(answers, said_so, detail, actor=actor)
    notes = [f"{count} {reason}" for reason, count in parsed.left.items() if count]
    untimed = sum(said.time == present for said in opinions)
    if untimed > 1 and not accept:
        notes.append(
            f"{untimed} opinions do not say when they were given, and are taken for given at once: people who agree "
            "may be held for one, and many of one person for a burst; add a column time, or --accept them"
        )
    if redactor.removed:
        removed = ", ".join(f"{count} {kind}" for kind, count in sorted(redactor.removed.items()))
        notes.append(f"taken out of the texts: {removed}")
    return Imported(len(ids), len(opinions) - len(ids), tuple(ids), tuple(notes))


def _placed(
    entry: Entry, ours: Mapping[str, Interaction], redactor: Redactor, made: dict[str, Interaction], where: str
) -> list[Feedback]:
    """The opinions of an entry on an answer that is kept, or that is made for them; texts cleaned."""
    if entry.response_id:
        if entry.response_id not in ours:
            fix = "check the id, or give prompt and answer instead"
            raise InputError(f"no answer has the id '{entry.response_id}'", where=where, fix=fix)
        about = [entry.response_id]
    else:
        texts = [entry.answer, entry.other] if entry.other else [entry.answer]
        about = [_made(entry, text, redactor, made, where) for text in texts]
        if len(set(about)) < len(about):
            raise InputError("the two answers that are compared are the same", where=where, fix="delete the line")
    found = []
    for said in entry.opinions:
        cleaned = redactor.clean(said)
        if cleaned is None:
            raise _unclean(where)
        refused = {"status": "rejected", "why": NO_CONSENT} if entry.response_id and entry.refused else {}
        found.append(cleaned.changed(interaction=about[0], other=about[1] if len(about) > 1 else "", **refused))
    return found


def _made(entry: Entry, answer: str, redactor: Redactor, made: dict[str, Interaction], where: str) -> str:
    """The id of the interaction that stands for a question and an answer of a file."""
    person = next((said.person for said in entry.opinions), "")
    turns = [[turn.role, turn.content] for turn in entry.turns]
    refused = ["refused"] if entry.refused else []  # the same without consent is another one
    identity = f"{IMPORTED_ARM}-{content_hash([turns, answer, person, *refused])[:32]}"
    if identity not in made:
        if not seconds(entry.time):
            fix = "write it as 2026-05-01T12:00:00+00:00, or leave it out"
            raise InputError(f"the time '{entry.time}' cannot be read", where=where, fix=fix)
        asked = Interaction(
            id=identity,
            time=now(),
            version=0,
            arm=IMPORTED_ARM,
            session=person,
            messages=entry.turns,
            answer=answer,
            finish="stop",
            consent="refused" if entry.refused else "assumed",
        )
        cleaned = redactor.clean(asked)
        if cleaned is None:
            raise _unclean(where)
        made[identity] = cleaned
    return identity


def _unclean(where: str) -> InputError:
    fix = "see serve.privacy.clean in nacre.yaml, or delete the line"
    return InputError("what is private could not be taken out of the text", where=where, fix=fix)


def _key(said: Feedback) -> tuple[object, ...]:
    """What makes two opinions the same; when they were given does not."""
    return (said.interaction, said.kind, said.value, said.text, said.person, said.other)


def _check_room(before: Sequence[Feedback], new: Sequence[Feedback], path: Path) -> None:
    more = Counter(said.interaction for said in new)
    held = Counter(said.interaction for said in before if said.interaction in more)
    for name, count in more.items():
        if held[name] + count > MOST_OPINIONS:
            what = f"the answer '{name}' would have more than {MOST_OPINIONS} opinions"
            raise InputError(what, where=str(path), fix="keep the newest of each person and kind")

"""Opinions from files into the ledger: cleaned like those that come in by the API, each once."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.base.files import file_lock
from nacre.base.hashing import content_hash
from nacre.cycle.workspace import Workspace
from nacre.feedback.imported import Entry, parse
from nacre.feedback.voices import seconds
from nacre.records import Feedback, Interaction
from nacre.registry.conversations import MOST_OPINIONS
from nacre.serve.privacy import Redactor

ARM = "imported"


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
    kept as an interaction of the arm `imported`. Killed in the middle, the same call ends the work.

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
    parsed = parse(path, form, time=now())
    redactor = Redactor(workspace.settings.serve.privacy.clean)
    made: dict[str, Interaction] = {}
    opinions: list[Feedback] = []
    with file_lock(workspace.hidden / "import.lock", wait=False):
        for entry in parsed.entries:
            opinions += _placed(workspace, entry, redactor, made, f"{path}, line {entry.line}")
        taken = {_key(said) for said in workspace.ledger.feedback()}
        new = list({_key(said): said for said in opinions if _key(said) not in taken}.values())
        _check_room(workspace, new, path)
        status = "accepted" if accept else "new"
        needed = {name for said in new for name in (said.interaction, said.other)}
        fresh = [one for one in made.values() if one.id in needed and workspace.ledger.interaction(one.id) is None]
        workspace.ledger.add_interactions(fresh)
        results = workspace.ledger.add_opinions([[said.changed(status=status) for said in new]]) if new else []
        for result in results:
            if isinstance(result, InputError):
                raise result
        ids = tuple(number for result in results if not isinstance(result, InputError) for number in result)
        if ids:
            detail = {"file": path.name, "opinions": len(ids), "accepted": accept}
            workspace.ledger.record("feedback imported", actor, detail)
    notes = [f"{count} {reason}" for reason, count in parsed.left.items() if count]
    if redactor.removed:
        removed = ", ".join(f"{count} {kind}" for kind, count in sorted(redactor.removed.items()))
        notes.append(f"taken out of the texts: {removed}")
    return Imported(len(ids), len(opinions) - len(ids), ids, tuple(notes))


def _placed(
    workspace: Workspace, entry: Entry, redactor: Redactor, made: dict[str, Interaction], where: str
) -> list[Feedback]:
    """The opinions of an entry on an answer that is kept, or that is made for them; texts cleaned."""
    if entry.response_id:
        if workspace.ledger.interaction(entry.response_id) is None:
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
        found.append(cleaned.changed(interaction=about[0], other=about[1] if len(about) > 1 else ""))
    return found


def _made(entry: Entry, answer: str, redactor: Redactor, made: dict[str, Interaction], where: str) -> str:
    """The id of the interaction that stands for a question and an answer of a file."""
    person = next((said.person for said in entry.opinions), "")
    turns = [[turn.role, turn.content] for turn in entry.turns]
    identity = f"{ARM}-{content_hash([turns, answer, person])[:32]}"
    if identity not in made:
        if not seconds(entry.time):
            fix = "write it as 2026-05-01T12:00:00+00:00, or leave it out"
            raise InputError(f"the time '{entry.time}' cannot be read", where=where, fix=fix)
        asked = Interaction(
            id=identity,
            time=now(),
            version=0,
            arm=ARM,
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


def _check_room(workspace: Workspace, new: list[Feedback], path: Path) -> None:
    more = Counter(said.interaction for said in new)
    held = Counter(said.interaction for said in workspace.ledger.feedback() if said.interaction in more)
    for name, count in more.items():
        if held[name] + count > MOST_OPINIONS:
            what = f"the answer '{name}' would have more than {MOST_OPINIONS} opinions"
            raise InputError(what, where=str(path), fix="keep the newest of each person and kind")

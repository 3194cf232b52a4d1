"""Opinions and where they went: listed, decided on by a person, and traced to the versions that learned from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nacre.base.errors import InputError, NacreError
from nacre.base.files import file_lock
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.workspace import Workspace
from nacre.data.compose.likeness import plain
from nacre.data.dataset import load
from nacre.data.rows import read_rows, without_forgotten
from nacre.feedback.rows import FEEDBACK, INTERACTION, unsigned
from nacre.records import Example, Feedback, FeedbackStatus, Interaction, Version

DECIDED = "feedback decided"


@dataclass(frozen=True)
class Listed:
    """An opinion with the question and the answer it is about; both empty where they are not kept any more."""

    said: Feedback
    question: str
    answer: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("id", "time", "kind", "value", "text", "status", "why", "source", "person", "interaction", "increment")
        fields = {name: getattr(self.said, name) for name in names}
        return fields | {"question": self.question, "answer": self.answer}


@dataclass(frozen=True)
class Learned:
    """Where an opinion went: into which increment, as which row, and which versions learned it.

    Attributes:
        increment: its name.
        row: question and answer (of a pair the chosen one); None where another row of the prompt was taken instead, or
            the row was left out as learned before or like a dev row.
        proves: whether the row is a dev row, which no version was trained on.
        snapshots: data hash of each version that was trained on the increment.
        versions: those versions.
        heirs: versions that come from one of them.
        slots: of all these versions the slots that they hold now, e.g. champion.
    """

    increment: str
    row: tuple[str, str] | None
    proves: bool
    snapshots: tuple[str, ...]
    versions: tuple[int, ...]
    heirs: tuple[int, ...]
    slots: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        split = "dev" if self.proves else "train"
        return {
            "increment": self.increment,
            "row": {"question": self.row[0], "answer": self.row[1], "split": split} if self.row else None,
            "snapshots": list(self.snapshots),
            "versions": list(self.versions),
            "heirs": list(self.heirs),
            "slots": dict(self.slots),
            "live": "champion" in self.slots,
        }


@dataclass(frozen=True)
class Traced:
    """An opinion and all it went into."""

    said: Listed
    learned: tuple[Learned, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.said.as_dict() | {"learned": [one.as_dict() for one in self.learned]}


def listed(workspace: Workspace, status: FeedbackStatus | None = None) -> list[Listed]:
    """Every opinion, or those of one status, oldest first."""
    return with_questions(workspace, workspace.ledger.feedback(status))


def decide(
    workspace: Workspace,
    numbers: Sequence[int],
    status: Literal["accepted", "rejected"],
    *,
    why: str = "",
    actor: str = "user",
) -> list[Feedback]:
    """Accept opinions, which then count whoever said them, or reject them for good; all or none.

    Raises:
        InputError: no number is given, one is not known, was made into rows already, or may not be learned from.
        NacreError: a harvest is at work.
    """
    if not numbers:
        fix = "give numbers from nacre feedback list"
        raise InputError("no opinion is named", where="nacre feedback", fix=fix)
    with file_lock(workspace.hidden / "harvest.lock", wait=False):
        known = {said.id: said for said in workspace.ledger.feedback()}
        about = {known[number].interaction for number in numbers if number in known}
        asked = workspace.ledger.usage.interactions(about)
        for number in numbers:
            _refuse(known.get(number), asked, number, status)
        workspace.ledger.mark_feedback(numbers, status, why=why)
        detail = {"ids": list(numbers), "status": status, "why": why}
        workspace.ledger.record(DECIDED, actor, detail)
    return [known[number].changed(status=status, why=why) for number in numbers]


def _refuse(said: Feedback | None, answers: Mapping[str, Interaction], number: int, status: str) -> None:
    """Say why an opinion cannot be decided on."""
    where = f"feedback {number}"
    if said is None:
        fix = "take the numbers from nacre feedback list"
        raise InputError(f"no feedback has the number {number}; nothing was changed", where=where, fix=fix)
    if said.status == "exported":
        what = f"it was made into rows of {said.increment or 'an earlier increment'} already"
        fix = f"nacre feedback trace {number} shows who learned it; nacre data forget removes rows"
        raise InputError(f"{what}; nothing was changed", where=where, fix=fix)
    asked = answers.get(said.interaction)
    if status == "accepted" and asked is not None and asked.consent == "refused":
        what = "its user did not consent to learning from it; nothing was changed"
        raise InputError(what, where=where, fix="leave it, or reject it")


def trace(workspace: Workspace, name: str) -> list[Traced]:
    """From a feedback number, or a response id, to the rows, increments and versions that came of it.

    Raises:
        InputError: nothing is known of it.
    """
    number = int(name) if name.isdecimal() else None
    found = [
        said
        for said in workspace.ledger.feedback()
        if (said.id == number if number is not None else name in (said.interaction, unsigned(said.interaction)))
    ]
    if not found:
        what = f"no feedback has the number {name}" if number is not None else f"nobody said anything about '{name}'"
        fix = "nacre feedback list shows numbers and response ids"
        raise InputError(what, where="nacre feedback trace", fix=fix)
    versions = workspace.ledger.versions()
    return [
        Traced(
            one,
            tuple(_learned(workspace, one, increment, versions) for increment in _increments(one.said)),
        )
        for one in with_questions(workspace, found)
    ]


@dataclass(frozen=True)
class Taught:
    """One opinion that a version learned from: its number, its increment, and the version that was trained on that."""

    feedback: int
    increment: str
    learned_in: int


def all_versions(traced: Sequence[Traced]) -> list[dict[str, Any]]:
    """Every version that learned from any of these opinions, or comes from one that did, with the slots it holds."""
    found: dict[int, dict[str, Any]] = {}
    for one in (learned for traced_one in traced for learned in traced_one.learned):
        for number in (*one.versions, *one.heirs):
            known = found.setdefault(number, {"version": number, "trained_on_it": False, "slots": []})
            known["trained_on_it"] |= number in one.versions
            known["slots"] = sorted(slot for slot, version in one.slots.items() if version == number)
    return [found[number] | {"live": "champion" in found[number]["slots"]} for number in sorted(found)]


def trace_version(workspace: Workspace, number: int) -> list[Taught]:
    """The opinions that a version learned from, itself or through those it comes from.

    Raises:
        InputError: there is no such version.
    """
    line = ancestry(workspace, number)
    if not line:
        raise InputError(f"there is no version {number}", where="nacre feedback trace", fix="nacre versions list")
    known: dict[str, list[int]] = {}
    for said in workspace.ledger.feedback("exported"):
        for increment in _increments(said):
            known.setdefault(increment, []).append(said.id)
    return [
        Taught(said, part, task.learned_in)
        for name, task in tasks_of(line).items()
        for part in name.split("+")
        for said in known.get(part, ())
    ]


def _increments(said: Feedback) -> list[str]:
    return [name for name in said.increment.split("+") if name]


def with_questions(workspace: Workspace, opinions: Sequence[Feedback]) -> list[Listed]:
    """These opinions with what they are about."""
    answers = workspace.ledger.usage.interactions({said.interaction for said in opinions})
    found = []
    for said in opinions:
        asked = answers.get(said.interaction)
        question = asked.messages[-1].content if asked and asked.messages else ""
        found.append(Listed(said, question, asked.answer if asked else ""))
    return found


def _learned(workspace: Workspace, opinion: Listed, increment: str, versions: Sequence[Version]) -> Learned:
    trained = [one for one in versions if increment in one.snapshot.task.split("+")]
    numbers = {one.number for one in trained}
    heirs: set[int] = set()
    for one in versions:  # a parent has a smaller number than its children
        if one.number not in numbers and numbers.union(heirs).intersection(one.parents):
            heirs.add(one.number)
    slots = {name: slot.version for name, slot in workspace.ledger.slots().items() if slot.version in numbers | heirs}
    row, proves = _row(workspace, opinion, increment, trained)
    return Learned(
        increment=increment,
        row=row,
        proves=proves,
        snapshots=tuple(dict.fromkeys(one.snapshot.data_hash for one in trained)),
        versions=tuple(sorted(numbers)),
        heirs=tuple(sorted(heirs)),
        slots=slots,
    )


def _row(
    workspace: Workspace, one: Listed, increment: str, trained: Sequence[Version]
) -> tuple[tuple[str, str] | None, bool]:
    """The row that an opinion became, and whether it is a dev row."""
    splits: tuple[Literal["train", "dev"], ...] = ("train", "dev")
    rows = [(row, split == "dev") for split in splits for row in _rows(workspace, increment, trained, split)]
    for fits in (_is_of, _says):
        for row, proves in rows:
            if fits(row, one):
                return (row.prompt[-1].content, row.answer), proves
    return None, False


def _is_of(row: Example, one: Listed) -> bool:
    extra = row.origin.extra
    numbers = str(extra.get(FEEDBACK, "")).split(",")
    return str(one.said.id) in numbers or (numbers == [""] and extra.get(INTERACTION) == unsigned(one.said.interaction))


def _says(row: Example, one: Listed) -> bool:
    """Whether a row says what the opinion says: a row names as many opinions as its column holds."""
    answer = one.said.text if one.said.kind == "correction" else one.answer
    asked = bool(one.question) and plain(row.prompt[-1].content) == plain(one.question)
    return asked and bool(answer) and plain(row.answer) == plain(answer)


def _rows(
    workspace: Workspace, increment: str, trained: Sequence[Version], split: Literal["train", "dev"]
) -> list[Example]:
    """Rows of an increment as its newest version learned them; as the files have them where none did."""
    instead = without_forgotten(workspace.memory)
    for version in reversed(trained):
        file = version.snapshot.replayable if split == "train" else version.snapshot.dev
        try:
            return read_rows(workspace.memory, instead.get(file.sha256, file)) if file else []
        except NacreError:  # not kept: the dataset may have them
            continue
    try:
        return load(increment, workspace.dataset_dir, split).examples
    except InputError:
        return []

"""From accepted feedback to the next increments' files: rows to learn, preference pairs, judged answers.

Three steps: note in the hidden folder which opinions become which increment, publish its folder, then mark the
opinions and write the event in one transaction. A kill leaves the note: the next harvest takes a published folder up.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.base.files import atomic_write, file_lock, staged_folder
from nacre.base.hashing import canonical_json
from nacre.cycle.rows.enough import Enough, enough
from nacre.cycle.rows.sift import Sifted, past_of, sift
from nacre.cycle.rows.stage import REPORT
from nacre.cycle.workspace import Workspace
from nacre.data.dataset_info import read_info
from nacre.feedback.curation import Harvest, collect
from nacre.feedback.rows import FEEDBACK
from nacre.feedback.topics import Topic, topics
from nacre.records import Example
from nacre.records.draft import FROM_FEEDBACK, Draft

HARVESTED, QUEUED = "harvested", "queued for review"
_ENDS = {"sft": "", "dpo": "_dpo", "kto": "_kto"}
_WHAT = {"sft": "rows", "dpo": "preference pairs", "kto": "judged answers"}


class NothingToLearn(InputError):
    """No opinion that counts names anything to learn."""


class NotEnough(InputError):
    """There are rows, but the gate could not see on them what it is there for."""


@dataclass(frozen=True)
class Made:
    """One increment: its name, the stage that trains it, where it lies, and its rows on either side."""

    name: str
    stage: str
    folder: Path
    train: int
    dev: int
    enough: Enough | None = None


@dataclass(frozen=True)
class Harvested:
    """What was made.

    Attributes:
        name, folder, train, dev: the first increment's.
        left_out: reason to number of opinions that became no row, or of rows that stayed out.
        note: sentences on what was done.
        increments: all that were made, in the order in which they are to be learned.
        topics: what people rated, the weak spots first.
        queue: whether the rows wait for a person's review instead of lying in folders.
        barely: rows behind which no more people stand than must agree.
    """

    name: str
    folder: Path
    train: int
    dev: int
    left_out: dict[str, int]
    note: str
    increments: tuple[Made, ...] = ()
    topics: tuple[Topic, ...] = ()
    queue: bool = False
    barely: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        made = [
            {"increment": one.name, "stage": one.stage, "folder": str(one.folder), "train": one.train, "dev": one.dev}
            | ({"statistics": one.enough.as_dict()} if one.enough else {})
            for one in self.increments
        ]
        return {
            "increment": self.name,
            "folder": str(self.folder),
            "train": self.train,
            "dev": self.dev,
            "left_out": self.left_out,
            "note": self.note,
            "increments": made,
            "topics": [one.as_dict() for one in self.topics],
            "review": self.queue,
            "barely": self.barely,
        }


@dataclass(frozen=True)
class Look:
    """What a harvest would make now; nothing was written.

    Attributes:
        rows: by stage (sft, dpo, kto) the rows that would go into increments.
        enough: whether the rows of stage sft show the gate what it is there for, or a person vouches for all of them.
        waiting: opinions in quarantine by reason; `left_out` has every reason.
        statistics: of stage sft.
    """

    rows: dict[str, int]
    enough: bool
    waiting: dict[str, int]
    left_out: dict[str, int]
    statistics: Enough | None = None


@dataclass(frozen=True)
class _Batch:
    """Rows of one stage on their way, with the opinions behind them."""

    stage: str
    rows: Sifted
    ids: tuple[int, ...]
    statistics: Enough
    vouched: bool = False
    wanted: bool = field(default=False)


def look(workspace: Workspace) -> Look:
    """What a harvest would make now."""
    found = collect(workspace.ledger, task="harvest", learning=workspace.settings.feedback)
    batches = {one.stage: one for one in _batches(workspace, found, "harvest", anyway=False)}
    sft = batches.get("sft")
    waits: dict[str, int] = {}
    for why in found.held.values():
        waits[why] = waits.get(why, 0) + 1
    return Look(
        rows={stage: batches[stage].rows.rows if stage in batches else 0 for stage in _ENDS},
        enough=any(one.wanted for one in batches.values()),
        waiting=waits,
        left_out=_left_out(found, list(batches.values())),
        statistics=sft.statistics if sft else None,
    )


def harvest(workspace: Workspace, name: str | None = None, *, anyway: bool = False, review: bool = False) -> Harvested:
    """Write accepted feedback as ``dataset/feedback_N/`` and mark it as used.

    Preference pairs and judged answers become increments of their own, ``feedback_N_dpo`` and ``feedback_N_kto``,
    as soon as there are enough of them.

    Args:
        workspace: whose feedback.
        name: of the increment; default: feedback_1, feedback_2 …
        anyway: also where there are too few rows for the gate to see anything on them; pairs and judged answers
            beside them still wait until some can be split off to prove them.
        review: put the rows before a person first, see `nacre data review`.

    Raises:
        NothingToLearn: there is no feedback to learn from.
        NotEnough: too few rows, and nobody vouches for all of them.
        InputError: `name` is taken or cannot name a folder.
        NacreError: another harvest is at work.
    """
    with file_lock(workspace.hidden / "harvest.lock", wait=False):
        adopted = _adopt(workspace)
        if adopted and (name == adopted.name or not _any(workspace, adopted.name)):
            return adopted
        made = _harvest(workspace, _new_name(workspace, name), anyway=anyway, review=review)
        return replace(made, note=" ".join(filter(None, (adopted.note, made.note)))) if adopted else made


def interrupted(workspace: Workspace) -> bool:
    """Whether a harvest was killed half-way: the next one has something to take up."""
    return _noted(workspace).is_file()


def _any(workspace: Workspace, task: str) -> bool:
    return bool(collect(workspace.ledger, task=task, learning=workspace.settings.feedback).examples)


def _noted(workspace: Workspace) -> Path:
    return workspace.hidden / "harvest.json"


def _harvest(workspace: Workspace, name: str, *, anyway: bool, review: bool) -> Harvested:
    found = collect(workspace.ledger, task=name, learning=workspace.settings.feedback)
    _hold(workspace, found)
    batches = _batches(workspace, found, name, anyway=anyway)
    left_out = _left_out(found, batches)
    chosen = [one for one in batches if one.wanted and one.rows.rows]
    waits = [f"{_WHAT[one.stage]} wait for more ({one.statistics})" for one in batches if one not in chosen]
    if not chosen and any(one.stage == "sft" and one.rows.rows for one in batches):
        _refuse_few(batches)
    if not chosen:
        _refuse_nothing(left_out, waits)
    barely = sum(_first(row) in found.barely for one in chosen for row in (*one.rows.train, *one.rows.dev))
    notes = [*dict.fromkeys(note for one in chosen for note in one.rows.notes), *waits]
    if barely:
        people = workspace.settings.feedback.trust.people
        notes.append(
            f"{barely} of {sum(one.rows.rows for one in chosen)} rows rest on the word of {people} people each, who "
            f"could be one" + ("" if review else ": nacre harvest --review puts rows before a person first")
        )
    increments = [
        Made(
            f"{name}{_ENDS[one.stage]}",
            one.stage,
            workspace.dataset_dir / f"{name}{_ENDS[one.stage]}",
            len(one.rows.train),
            len(one.rows.dev),
            one.statistics,
        )
        for one in chosen
    ]
    shown = topics(found.ratings)
    _keep(workspace, list(zip(increments, chosen, strict=True)), shown, left_out, review=review)
    first = increments[0]
    note = "; ".join(notes)
    return Harvested(
        first.name,
        first.folder,
        first.train,
        first.dev,
        left_out,
        note,
        tuple(increments),
        tuple(shown),
        review,
        barely,
    )


def _first(row: Example) -> int:
    """The number of the opinion that a row was made of; 0 where it names none."""
    number = str(row.origin.extra.get(FEEDBACK, "")).split(",")[0]
    return int(number) if number.isdecimal() else 0


def _batches(workspace: Workspace, found: Harvest, name: str, *, anyway: bool) -> list[_Batch]:
    """The rows of each stage without those that must stay out, and whether they are to be made now."""
    batches = []
    stages: list[tuple[str, Sequence[Example], tuple[int, ...], bool]] = [
        ("sft", found.examples, found.feedback_ids, found.vouched),
        ("dpo", found.pairs, found.pair_ids, False),
        ("kto", found.thumbs, found.thumb_ids, False),
    ]
    past = past_of(workspace) if found.rows else None
    learned = {one.id for one in workspace.ledger.feedback("exported")} if found.rows else set()
    for stage, rows, ids, vouched in stages:
        sifted = sift(rows, past, workspace.settings.data.dev_share) if past and rows else None
        if sifted is not None and (sifted.rows or sifted.left_out):
            shown = enough(workspace, f"{name}{_ENDS[stage]}", sifted.rows, len(sifted.dev))
            as_rows = found.examples or learned.issuperset(ids)  # what is learned so can wait to be learned as pairs
            provable = stage == "sft" or bool(sifted.dev) or not as_rows
            wanted = vouched or shown.holds or (anyway and provable)
            batches.append(_Batch(stage, sifted, ids, shown, vouched, wanted))
    return batches


def _left_out(found: Harvest, batches: Sequence[_Batch]) -> dict[str, int]:
    left = dict(found.left_out)
    for one in batches:
        of = "" if one.stage == "sft" else f" ({_WHAT[one.stage]})"
        for reason, number in one.rows.left_out.items() if one.wanted else ():
            left[reason + of] = left.get(reason + of, 0) + number
    return left


def _refuse_nothing(left_out: dict[str, int], waits: Sequence[str]) -> None:
    left = ", ".join(f"{number}: {reason}" for reason, number in left_out.items())
    raise NothingToLearn(
        "there is no feedback to learn from",
        where="; ".join([f"left out: {left}"] * bool(left) + list(waits)) or "no feedback yet",
        fix="serve the model and collect corrections or four-star answers at /v1/feedback; "
        "nacre feedback list shows what waits",
    )


def _refuse_few(batches: Sequence[_Batch]) -> None:
    few = max((one for one in batches if one.rows.rows), key=lambda one: one.rows.rows)
    wanted = few.statistics.wanted
    until = (
        f"wait for about {wanted}" if wanted else "no number of rows of its own shows so little: raise keep.max_drop"
    )
    said = "; ".join(f"{_WHAT[one.stage]}: {one.statistics}" for one in batches if one.rows.rows)
    raise NotEnough(
        f"{few.statistics}: {until}",
        where=said,
        fix="wait, or make increments of them all the same: nacre harvest --anyway",
    )


def _hold(workspace: Workspace, found: Harvest) -> None:
    """Write down which opinions wait and why, and which do not wait any more."""
    known = {said.id: said for said in workspace.ledger.feedback("quarantined")}
    marks: dict[str, list[int]] = {}
    for number, why in found.held.items():
        if number not in known or known[number].why != why:
            marks.setdefault(why, []).append(number)
    for why, numbers in marks.items():
        workspace.ledger.mark_feedback(numbers, "quarantined", why=why)
    if free := [number for number in known if number not in found.held]:
        workspace.ledger.mark_feedback(free, "new")


def _keep(
    workspace: Workspace,
    made: Sequence[tuple[Made, _Batch]],
    shown: Sequence[Topic],
    left_out: dict[str, int],
    *,
    review: bool,
) -> None:
    """Publish folders, or drafts for a person, and mark the opinions behind them."""
    noted: list[dict[str, Any]] = [
        {
            "detail": {"increment": one.name, "train": one.train, "dev": one.dev, "stage": one.stage},
            "ids": list(batch.ids),
            "review": review,
        }
        for one, batch in made
    ]
    atomic_write(_noted(workspace), canonical_json({"increments": noted}))
    for (one, batch), note in zip(made, noted, strict=True):
        if review:
            rows = (*batch.rows.train, *batch.rows.dev)
            drafts = [Draft(queue=one.name, row=row, model=FROM_FEEDBACK, created=now()) for row in rows]
            workspace.ledger.drafts.add(drafts)
        else:
            told = {"stage": one.stage, "left_out": left_out, "topics": [topic.as_dict() for topic in shown]}
            with staged_folder(one.folder) as staging:
                _write(staging / "train.json", batch.rows.train)
                if batch.rows.dev:
                    _write(staging / "dev.json", batch.rows.dev)
                (staging / REPORT).write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        workspace.ledger.export_feedback(batch.ids, QUEUED if review else HARVESTED, "harvest", note["detail"])
    _noted(workspace).unlink()


def _adopt(workspace: Workspace) -> Harvested | None:
    """Take up what a killed harvest had published and not recorded; None where there is nothing of that kind."""
    noted = _noted(workspace)
    if not noted.is_file():
        return None
    found = json.loads(noted.read_text(encoding="utf-8"))
    told = {one.detail["increment"] for one in workspace.ledger.events() if one.kind in (HARVESTED, QUEUED)}
    there, adopted = {said.id for said in workspace.ledger.feedback()}, []  # some may have been forgotten since
    for one in found.get("increments", [found]):
        detail, review = one["detail"], one.get("review", False)
        folder = workspace.dataset_dir / detail["increment"]
        kept = detail["increment"] in workspace.ledger.drafts.queues() if review else folder.is_dir()
        if kept and detail["increment"] not in told:
            ids = [number for number in one["ids"] if number in there]
            workspace.ledger.export_feedback(ids, QUEUED if review else HARVESTED, "harvest", detail)
            stage = detail.get("stage", "sft")
            adopted.append(Made(detail["increment"], stage, folder, detail["train"], detail["dev"]))
    noted.unlink()
    if not adopted:
        return None
    names = ", ".join(one.name for one in adopted)
    note = f"{names} was written by a harvest that was killed, and is recorded now."
    first = adopted[0]
    return Harvested(first.name, first.folder, first.train, first.dev, {}, note, tuple(adopted))


def _new_name(workspace: Workspace, wanted: str | None) -> str:
    """The name asked for, or the next of feedback_1, feedback_2 …; none that means other data already."""
    info = read_info(workspace.dataset_dir)
    known = {path.name for path in workspace.dataset_dir.glob("*")} | set(info) | set(workspace.ledger.drafts.queues())

    def taken(name: str) -> bool:
        return any(f"{name}{end}" in known for end in _ENDS.values())

    if wanted is None:
        return next(name for name in map("feedback_{}".format, count(1)) if not taken(name))
    if taken(wanted):
        where = str(workspace.dataset_dir / wanted)
        raise InputError("an increment of this name exists", where=where, fix="choose another --name")
    if not re.fullmatch(r"\w[\w.-]*", wanted):
        raise InputError("this cannot name a folder", where=f"--name {wanted}", fix="use letters, digits, - and _")
    return wanted


def _write(path: Path, examples: Sequence[Example]) -> None:
    """Messages, one row a line, as the training data of other tools looks too; beside them where a row came from."""
    path.write_text("".join(f"{canonical_json(_record(example))}\n" for example in examples), encoding="utf-8")


def _record(example: Example) -> dict[str, Any]:
    system = [{"role": "system", "content": example.system}] if example.system else []
    prompt = [*system, *({"role": turn.role, "content": turn.content} for turn in example.prompt)]
    answers = [{"role": turn.role, "content": turn.content} for turn in example.answers]
    beside = dict(example.origin.extra)
    if example.kind == "preference":
        return {"messages": prompt, "chosen": answers[0], "rejected": answers[1]} | beside
    judged = {} if example.desirable is None else {"label": example.desirable}
    return {"messages": prompt + answers} | judged | beside

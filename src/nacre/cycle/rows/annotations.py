"""Answers of several people: how far they agree, what they differ in, and the rows that come of them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import InputError, unknown
from nacre.base.files import atomic_write
from nacre.data.annotate.answers import RATING, TEXT, Export, Item, Opinion, raters_of, read_export, row_of_item, told
from nacre.data.annotate.client import Client
from nacre.data.annotate.projects import Pushed, open_project, push, the_project
from nacre.data.annotate.questions import OWN, with_opinions
from nacre.data.compose.pieces import ORIGIN_FILE, as_record, made, write_records
from nacre.data.formats.fields import Unusable
from nacre.gate.agreement import AT_LEAST, ITEMS, Agreed, judge_agreement
from nacre.stats.agreement import Agreement, agreement


@dataclass(frozen=True)
class Agreeing:
    """What `agree` found.

    Attributes:
        kind: Label Studio's word for the question; empty where nobody answered.
        tasks, answered: how many there are, and how many somebody answered.
        raters: how many tasks each person answered; `adjudicators`, who only decided, are not among them.
        agreement: kappa; None of free text, which has no categories.
        verdict: of the gate; None of free text.
        disputed: tasks in which the answers differ and no decision holds.
        settled: how many differed, and were decided since.
        notes: what was left out and why.
    """

    kind: str
    tasks: int
    answered: int
    raters: dict[str, int]
    adjudicators: tuple[str, ...]
    agreement: Agreement | None
    verdict: Agreed | None
    disputed: tuple[Item, ...]
    settled: int
    notes: tuple[str, ...]


def agree(
    path: Path,
    *,
    question: str = "",
    decided: Sequence[Path] = (),
    raters: Sequence[str] = (),
    at_least: float = AT_LEAST,
    items: int = ITEMS,
) -> Agreeing:
    """How far the people of an export agree: Cohen's kappa of two, Fleiss' of more, over the tasks they share.

    Args:
        path: Label Studio's JSON export.
        question: name of the question, where several are asked.
        decided: files with decisions on what they differed in: exports, or from `decide`.
        raters: whose answers count, by their number; default: everybody who gave an answer that is not marked as
            ground truth. Who only marked truth decided, and would be counted twice.
        at_least, items: see `nacre.gate.agreement`.

    Raises:
        InputError: a file cannot be read, or there is no such question or person.
    """
    export = read_export(path, question)
    decisions, notes = _decisions(export, decided)
    people = raters_of(export.items)
    chosen = _raters(export, raters, path)
    kind = next((item.kind for item in export.items if item.opinions), "")
    differing = [item for item in export.items if len({one.said for one in item.opinions}) > 1 or item.decided is None]
    differing = [item for item in differing if item.opinions]
    disputed = [item for item in differing if item.decided is None and item.id not in decisions]
    found = verdict = None
    if kind != TEXT:
        said = [{one.rater: one.said for one in item.opinions if one.rater in chosen} for item in export.items]
        found = agreement(said, ordered=kind == RATING)
        verdict = judge_agreement(found, at_least=at_least, items=items)
        shared = sum(len(one) > 1 for one in said)
        if shared > found.items:
            notes.append(f"{shared - found.items} tasks have another number of answers and are not in kappa")
    return Agreeing(
        kind=kind,
        tasks=len(export.items),
        answered=sum(bool(item.opinions) for item in export.items),
        raters={one: count for one, count in people.items() if one in chosen},
        adjudicators=tuple(one for one in people if one not in chosen),
        agreement=found,
        verdict=verdict,
        disputed=tuple(disputed),
        settled=len(differing) - len(disputed),
        notes=(*notes, *told(export.left)),
    )


def write_disputed(found: Agreeing, file: Path) -> int:
    """Write the disputed tasks as an export of their own, for `adjudicate` or `decide`; returns how many."""
    _write_tasks(file, [item.task for item in found.disputed])
    return len(found.disputed)


def adjudicate(client: Client, file: Path, title: str) -> Pushed:
    """Send disputed tasks back into a project of their own, which shows what was said, without who said it.

    The project asks what the one asked that they come from, which must be on the same server.

    Raises:
        InputError: the file has no tasks, or they come from several projects or from another server.
        NacreError: the server does not answer.
    """
    items = read_export(file).items
    sources = {str(item.task.get("project", "")) for item in items}
    if len(sources) != 1 or not all(sources):
        fix = "write it with nacre data annotate agree EXPORT --disputed FILE"
        raise InputError("the tasks are not of one project", where=str(file), fix=fix)
    project = open_project(client, title, with_opinions(the_project(client, sources.pop()).config))
    tasks = []
    for item in items:
        counts = Counter(str(one.said) for one in item.opinions)
        said = "\n".join(f"{answer} ({count})" for answer, count in sorted(counts.items()))
        tasks.append({"data": {**item.task["data"], OWN: {**item.own, "id": item.id}, "said": said}})
    return push(client, project, tasks)


def decide(file: Path, choices: Mapping[str, str], *, by: str, out: Path) -> int:
    """Decide disputed tasks, and keep that beside earlier decisions in `out`; returns how many `out` holds now.

    Args:
        file: from `write_disputed`.
        choices: the answer that holds, by the number (or id) of the task: one of those given, or any text where the
            question is one of free text.
        by: who decides.
        out: an export again, each task with one answer, marked as ground truth.

    Raises:
        InputError: no such task or answer, or it is not said who decides; nothing was written.
    """
    if not by.strip():
        raise InputError("it is not said who decides", where=str(file), fix="name them with --by")
    items = {str(item.task.get("id")): item for item in read_export(file).items}
    by_id = {item.id: item for item in items.values()}
    kept = {item.id: item.task for item in read_export(out).items} if out.is_file() else {}
    for number, answer in choices.items():
        item = items.get(number) or by_id.get(number)
        if item is None:
            raise unknown("task", number, items, where=str(file))
        kept[item.id] = _settled(item, answer, by.strip(), file)
    _write_tasks(out, list(kept.values()))
    return len(kept)


@dataclass(frozen=True)
class Written:
    """What `rows` wrote: how many rows, and how many tasks gave none, by reason."""

    rows: int
    left: dict[str, int]


def rows(
    path: Path, out: Path, *, question: str = "", decided: Sequence[Path] = (), kappa: float | None = None
) -> Written:
    """Write the rows that an export makes, with decisions on what was disputed; each says who answered and decided.

    Args:
        path: Label Studio's JSON export; a task that came from `push` gives its whole row back.
        out: JSON lines, whole or not at all.
        question, decided: see `agree`.
        kappa: written beside each row, if there is one.

    Raises:
        InputError: a file cannot be read, or there is no row to be written.
    """
    export = read_export(path, question)
    decisions, _ = _decisions(export, decided)
    left: Counter[str] = Counter()
    written = []
    for item in export.items:
        settled = decisions.get(item.id)
        held = settled or item.decided
        if held is None:
            left["the answers differ, and no decision holds" if item.opinions else "nobody answered"] += 1
            continue
        if "draft" in item.own:
            left["it is a made-up row of a review queue: nacre data annotate drafts pull"] += 1
            continue
        try:
            row = row_of_item(item, held, question)
        except Unusable as problem:
            left[problem.reason] += 1
            continue
        if row is None:
            left["rejected"] += 1
            continue
        by = {"decided_by": settled.rater[:64]} if settled else {}
        beside = {} if kappa is None else {"kappa": round(kappa, 3)}
        written.append(as_record(made(row, **_origin(item, path), **by, **beside)))
    if not written:
        fix = "nacre data annotate agree EXPORT says what was answered"
        raise InputError("no row comes of it", where=f"{path}: {'; '.join(map(str, left))}", fix=fix)
    return Written(write_records(out, written), dict(left))


def _origin(item: Item, path: Path) -> dict[str, str | int | float]:
    """Where a row came from: what its task was made of, and who answered."""
    origin = item.own.get("origin")
    before: dict[str, Any] = origin if isinstance(origin, dict) else {}
    answered = ",".join(one.rater for one in item.opinions)[:64]
    number = item.task.get("id", "")
    return {ORIGIN_FILE: path.name} | before | {"origin": "annotated", "task": number, "answered_by": answered}


def _raters(export: Export, named: Sequence[str], path: Path) -> set[str]:
    people = raters_of(export.items)
    for one in named:
        if one not in people:
            raise unknown("person", one, people, where=str(path))
    if named:
        return set(named)
    plain = {one.rater for item in export.items for one in item.opinions if not one.is_truth}
    return plain if len(plain) > 1 else set(people)


def _decisions(export: Export, files: Sequence[Path]) -> tuple[dict[str, Opinion], list[str]]:
    """The decision on each task, by its id; the last file counts. And how many are about other tasks."""
    known = {item.id for item in export.items}
    found: dict[str, Opinion] = {}
    foreign = open_ = 0
    for file in files:
        for item in read_export(file).items:
            foreign += item.id not in known
            open_ += item.decided is None
            if item.decided is not None:
                found[item.id] = item.decided
    counts = {"decisions are on tasks that the export has not": foreign, "tasks wait for a decision": open_}
    return found, told(counts)


def _settled(item: Item, answer: str, by: str, file: Path) -> dict[str, Any]:
    """The task with one answer, as an export has it."""
    given = {str(one.said): one for one in item.opinions}
    where = f"{file}, task {item.task.get('id')}"
    if answer in given:
        result = given[answer].annotation["result"]
    elif item.kind == TEXT and answer.strip():
        first = item.opinions[0].annotation["result"]
        result = [{**one, "value": {"text": [answer.strip()]}} for one in first if one.get("type") == TEXT]
    else:
        raise unknown("answer", answer, given, where=where)
    held = {"completed_by": by, "result": result, "was_cancelled": False, "ground_truth": True, "created_at": now()}
    data = {**item.task["data"], OWN: {**item.own, "id": item.id}}
    return {**item.task, "data": data, "annotations": [held]}


def _write_tasks(file: Path, tasks: Sequence[Mapping[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(task, ensure_ascii=False) for task in tasks)
    atomic_write(file, f"[{lines}]\n")

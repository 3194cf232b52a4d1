"""What people said about answers, and the reports that come of it; `review_items` chooses what they are asked."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.clock import now
from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import content_hash
from nacre.cycle.workspace import Workspace
from nacre.records import Report
from nacre.records.report import ASKED
from nacre.records.review import Opinion, ReviewItem
from nacre.stats.agreement import Agreement, WinRate, agreement, win_rate

METRIC = "human"


@dataclass(frozen=True)
class Status:
    """How far a review is, and what it says so far.

    Attributes:
        queue: its name.
        kind: `pair` or `single`.
        task: the task.
        versions: (old, new) of pairs, or the one version; 0 is the base model.
        items, answered, equal, skipped: counted; an item is answered when as many people as wanted said something.
        raters: how many opinions each person gave, skips aside.
        left: share of decided opinions that chose the left answer: far from one half is a habit, not a preference.
        rate: how the new version fares against the old one, or the mean rating; None before the first opinion. Equal
            pairs are ties in it, as many as go with the share of asked rows that somebody said something about.
        agreement: between the raters; None of a single one.
    """

    queue: str
    kind: str
    task: str
    versions: tuple[int, ...]
    items: int
    answered: int
    equal: int
    skipped: int
    raters: dict[str, int]
    left: float | None
    rate: WinRate | None
    agreement: Agreement | None


def shown(item: ReviewItem) -> dict[str, Any]:
    """What a rater may see of an item: the answers, and nothing of who gave them."""
    answers = {"left": item.left, "right": item.right} if item.kind == "pair" else {"answer": item.left}
    about = {"item": item.id, "task": item.task, "question": item.question, "reference": item.reference}
    return about | answers | {"choices": list(item.choices)}


def answer(workspace: Workspace, number: int, choice: str, rater: str) -> bool:
    """Keep one person's choice for an item; whether it was new.

    Raises:
        InputError: see `Reviews.answer`.
    """
    opinion = Opinion(rater=_named(rater), choice=choice.strip().lower(), time=now())
    return workspace.ledger.reviews.answer([(number, opinion)]) == 1


def export(workspace: Workspace, queue: str, file: Path) -> int:
    """Write the open items of a queue as JSON lines for raters elsewhere; returns how many.

    Each line has `item`, what `shown` shows, and two empty fields to fill in: `rater` and `choice`.

    Raises:
        InputError: there is no such queue.
        NacreError: the file cannot be written.
    """
    waiting = [item for item in workspace.ledger.reviews.items(queue) if item.status == "open"]
    lines = [json.dumps(shown(item) | {"rater": "", "choice": ""}, ensure_ascii=False) + "\n" for item in waiting]
    atomic_write(file, "".join(lines))
    return len(lines)


def import_answers(workspace: Workspace, file: Path, rater: str = "") -> tuple[int, int, int]:
    """Read choices from JSON lines with `item`, `choice` and `rater`, all or none.

    Args:
        workspace: where the review is.
        file: as `export` wrote it, filled in.
        rater: who answered, where a line does not say.

    Returns:
        How many were new, known before, and left empty.

    Raises:
        InputError: the file or a line cannot be read, or what `Reviews.answer` refuses; nothing was written.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # alone: an answer may hold U+2028, as it is
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the answers cannot be read", where=str(file), fix=f"check the file: {error}") from None
    given, empty = [], 0
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _line(line, f"{file}, line {place}")
        choice = str(found.get("choice") or "").strip().lower()
        if not choice:
            empty += 1
            continue
        who = _named(str(found.get("rater") or rater), f"{file}, line {place}")
        given.append((found["item"], Opinion(rater=who, choice=choice, time=now())))
    new = workspace.ledger.reviews.answer(given)
    return new, len(given) - new, empty


def status(workspace: Workspace, queue: str) -> Status:
    """How far a review is and what it says so far.

    Raises:
        InputError: there is no such queue.
    """
    items = workspace.ledger.reviews.items(queue)
    first, pairs = items[0], items[0].kind == "pair"
    scores = [found[-1] for item in _counted(items) if (found := item.scores) is not None]
    opinions = [opinion for item in items for opinion in item.counted]
    sides = Counter(opinion.choice for opinion in opinions)
    decided = sides["left"] + sides["right"]
    chosen = [{one.rater: _category(item, one) for one in item.counted} for item in items]
    asked = any(item.counted for item in items)
    return Status(
        queue=queue,
        kind=first.kind,
        task=first.task,
        versions=first.versions,
        items=len(items),
        answered=sum(item.status == "answered" for item in items),
        equal=sum(item.status == "equal" for item in items),
        skipped=sum(len(item.opinions) - len(item.counted) for item in items),
        raters=dict(sorted(Counter(opinion.rater for opinion in opinions).items())),
        left=sides["left"] / decided if pairs and decided else None,
        rate=win_rate(scores) if asked else None,
        agreement=agreement(chosen, ordered=not pairs) if len({one.rater for one in opinions}) > 1 else None,
    )


def reports(workspace: Workspace, queue: str) -> dict[int, Report]:
    """The review as reports with the metric `human`, by version, old before new, kept in the ledger.

    They hold the rows that somebody said something about, with their share of the equal pairs, and stand beside the
    usual reports. The gate compares them as any others.

    Raises:
        InputError: no such queue, or nobody has answered yet.
    """
    items = workspace.ledger.reviews.items(queue)
    if not any(item.counted for item in items):
        fix = f"nacre review answer --queue {queue}"
        raise InputError("nobody has answered yet", where=f"review queue {queue}", fix=fix)
    first = items[0]
    found = {}
    raters = sorted({opinion.rater for item in items for opinion in item.counted})
    judged = content_hash([queue, *([item.id, item.digest] for item in items)])
    said = sorted(_counted(items), key=lambda item: item.place)
    silent = sum(item.scores is None for item in items)
    note = f"{silent} of {len(items)} rows have no opinion yet; equal pairs count in that proportion"
    for side, number in enumerate(first.versions):
        report = Report(
            weights=first.weights[side],
            task=first.task,
            dev=first.dev,
            rows=len(said),
            metric=METRIC,
            why=f"{METRIC}: {len(said)} rows reviewed by {', '.join(raters)}",
            decoding=first.decoding,
            scores={METRIC: tuple(item.scores[side] for item in said if item.scores is not None)},
            totals={},
            answers=tuple(_text(item, side) for item in said),
            at=tuple(item.place for item in said),
            notes=(note,) if silent else (),
            aside=ASKED,
            judged=judged,
        )
        workspace.ledger.put_report(report)
        found[number] = report
    return found


def export_scores(workspace: Workspace, queue: str, file: Path) -> dict[Path, int]:
    """Write what people said as sample files, one a version: JSON lines with `id`, `score` and `task`.

    The files are named after `file`, with the version's number, and `nacre gate` compares them.

    Returns:
        How many rows each file has.

    Raises:
        InputError: what `reports` refuses.
        NacreError: a file cannot be written.
    """
    written = {}
    for number, report in reports(workspace, queue).items():
        rows = [
            {"id": f"{report.dev[:12]}:{place}", "score": score, "task": report.task}
            for place, score in zip(report.places, report.scores[METRIC], strict=True)
        ]
        path = file.with_name(f"{file.name.removesuffix('.jsonl')}-v{number}.jsonl")
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        written[path] = len(rows)
    return written


def _counted(items: Sequence[ReviewItem]) -> list[ReviewItem]:
    """The items that say something about the versions, in the order in which they are asked.

    Equal pairs are known at once, differing ones only when somebody has answered: counting all of the former from the
    first opinion on would make every review that has just begun a draw. So of the equal pairs the first ones count, in
    the proportion in which the asked rows have an opinion; all of them when every row has one.
    """
    equal = [item for item in items if item.status == "equal"]
    said = [item for item in items if item.status != "equal" and item.scores is not None]
    asked = len(items) - len(equal)
    share = len(equal) * len(said) // asked if asked else 0
    counted = {item.id for item in (*said, *equal[:share])}
    return [item for item in items if item.id in counted]


def _text(item: ReviewItem, side: int) -> str:
    """The answer of one of the item's versions, as raters saw it."""
    return item.right if item.kind == "pair" and (side == 0) == item.turned else item.left


def _category(item: ReviewItem, opinion: Opinion) -> str | int:
    """What was chosen, as raters can agree in it: of a pair the version, not the side."""
    if item.kind == "single":
        return int(opinion.choice)
    preferred = item.preferred(opinion.choice)
    return "tie" if preferred is None else str(item.versions[preferred])


def _line(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise InputError(f"not JSON: {error}", where=where, fix="correct that line; nothing was written") from None
    if not isinstance(found, dict) or not isinstance(found.get("item"), int):
        fix = "write an object with item, choice and rater, as nacre review export does; nothing was written"
        raise InputError("the line names no review item", where=where, fix=fix)
    return found


def _named(rater: str, where: str = "review") -> str:
    if not rater.strip():
        raise InputError("it is not said who answered", where=where, fix="name them with --rater")
    return rater.strip()

"""Which answers people are asked about: rows of a task, drawn by hash, as one version or two answer them."""

from collections.abc import Sequence
from dataclasses import dataclass

from nacre.base.clock import now
from nacre.base.errors import InputError, unknown
from nacre.base.hashing import content_hash, sha256_text
from nacre.cycle.lineage import ancestry, devs, tasks_of, versions_as_kept
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.evaluate.judge.prompts import question_of
from nacre.evaluate.plan import generates
from nacre.records import Example, Report, RowsFile, Weights
from nacre.records.review import ReviewItem


@dataclass(frozen=True)
class Added:
    """What `add` put into a queue: how many items people are asked about, and how many pairs are equal answers.

    `notes` say what of the request does not hold for the rows that were in it before.
    """

    queue: str
    asked: int
    equal: int
    known: int
    notes: tuple[str, ...] = ()


def add(
    workspace: Workspace,
    versions: Sequence[int],
    task: str,
    *,
    items: int,
    raters: int = 1,
    queue: str = "",
) -> Added:
    """Put rows of a task before people: two versions' answers side by side (old, new), or one version's alone.

    The rows are drawn by hash, the same ones each time; more `items` later ask about more rows. Which answer stands on
    the left is decided by hash too. Pairs of equal answers are not asked and count as ties.

    Args:
        workspace: where the versions are; what they answered is read from their reports, or scored now.
        versions: one or two numbers; 0 is the base model.
        task: a task that the newest of them knows; of the base model alone any task.
        items: how many rows.
        raters: how many people are to answer each.
        queue: a name; default: made from versions and task.

    Raises:
        InputError: an unknown version or task, a task without answers, or a name that another review has.
    """
    if not 1 <= len(versions) <= 2 or len(set(versions)) < len(versions):
        fix = "name two versions to compare, or one to rate"
        raise InputError("a review is of one version or of two different ones", where="review", fix=fix)
    queue = queue or f"{'-'.join(f'v{number}' for number in versions)}-{task}"
    dev = _dev_rows(workspace, versions, task)
    examples = read_rows(workspace.memory, dev)
    if not generates(examples):
        fix = "review a task whose rows have answers to match"
        raise InputError(f"there is nothing to read: no answers are generated for {task}", where=task, fix=fix)
    weights = [_weights(workspace, number) for number in versions]
    scorer = Scorer(workspace)
    said = [scorer.reports(one, [(task, dev)])[task] for one in weights]
    held = workspace.ledger.reviews.items(queue) if queue in workspace.ledger.reviews.queues() else []
    identities = tuple(one.identity for one in weights)
    if any((item.weights, item.task) != (identities, task) for item in held):
        fix = "give this one another name with --queue"
        raise InputError(f"the queue '{queue}' holds a review of other versions", where="review", fix=fix)
    made = [
        _item(queue, place, examples[place], versions, said).changed(raters=raters)
        for place in _drawn(examples, dev)
        if all(place in report.said_at for report in said)
    ][:items]
    added = workspace.ledger.reviews.add(made)
    equal = sum(item.status == "equal" for item in added)
    others = sum(item.raters != raters and item.status != "equal" for item in held)
    notes = [f"{others} rows were put there for another number of people, which stays"] if others else []
    return Added(queue, len(added) - equal, equal, len(made) - len(added), tuple(notes))


def _drawn(examples: Sequence[Example], dev: RowsFile) -> list[int]:
    """The places of all rows in an order that only their content decides."""
    return sorted(range(len(examples)), key=lambda place: content_hash([dev.sha256, place, examples[place].content_id]))


def _item(queue: str, place: int, row: Example, versions: Sequence[int], said: Sequence[Report]) -> ReviewItem:
    """One row as people see it, with one answer or two."""
    texts = [report.said_at[place] for report in said]
    pair, first = len(texts) == 2, said[0]
    turned = pair and sha256_text(f"{queue} {first.dev} {place}")[0] in "01234567"
    equal = pair and texts[0].strip() == texts[1].strip()
    return ReviewItem(
        queue=queue,
        kind="pair" if pair else "single",
        task=first.task,
        dev=first.dev,
        place=place,
        question=question_of(row),
        reference=row.answer,
        left=texts[1] if turned else texts[0],
        right=texts[1 - turned] if pair else "",
        turned=turned,
        versions=tuple(versions),
        weights=tuple(report.weights for report in said),
        decoding=first.decoding,
        status="equal" if equal else "open",
        created=now(),
    )


def _weights(workspace: Workspace, number: int) -> Weights:
    return workspace.weights(workspace.ledger.version(number)) if number else workspace.base


def _dev_rows(workspace: Workspace, versions: Sequence[int], task: str) -> RowsFile:
    line = ancestry(workspace, max(versions) or None)
    # the base model was taught nothing: it is asked what any version was
    known = dict(devs(tasks_of(line or versions_as_kept(workspace))))
    if task not in known:
        raise unknown("task with dev rows", task, known, where=f"version {max(versions)}")
    return known[task]

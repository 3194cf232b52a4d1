"""One version's facts, read off the ledger: nothing is trained or scored."""

from collections.abc import Mapping

from nacre.base.errors import InputError
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.reports.advice import advise
from nacre.cycle.reports.facts import Cost, Evolved, Learned, Move, arrival, moves, training
from nacre.cycle.scores.known import KnownReports
from nacre.cycle.scores.matrix import lineage_matrix
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows, rows_path
from nacre.evaluate.matrix import Matrix, figures
from nacre.gate.pair import MOST_GAINED, MOST_LOST, TaskPair
from nacre.records import Report, RowsFile, Verdict, Version
from nacre.stats.paired import paired

SHOWN = ("average accuracy", "BWT", "forgetting", "learning accuracy", "FWT")
_PARTS = ("data", "power", "training", "findings", "scoring", "gate")  # of the notes, in the order of the work
_LEVEL = 0.975  # one-sided, both bounds: a 95 % interval


def gather(
    workspace: Workspace,
    number: int,
    *,
    kept: Evolved | None,
    notes: Mapping[str, tuple[str, ...]],
    matrix: Matrix | None = None,
) -> Evolved:
    """The facts of a version as the ledger has them now.

    Args:
        workspace: whose ledger.
        number: the version.
        kept: an earlier report of it: what can no longer be read (notes, curves of collected weights) is taken from it.
        notes: what the cycle said while it was made; empty: those of `kept`.
        matrix: of its line, where it has just been read; None: it is read now.

    Raises:
        InputError: there is no such version.
    """
    ledger = workspace.ledger
    version, verdict, events = ledger.version(number), ledger.verdict(number), ledger.events()
    against = ledger.judged_against(number)
    matrix = matrix or lineage_matrix(workspace, number)
    learned = _learned(workspace, version, against) if verdict else ()
    slots = tuple(sorted(slot.name for slot in ledger.slots().values() if slot.version == number))
    history = moves(events, number)
    return Evolved(
        number=number,
        task=version.snapshot.task,
        created=version.created,
        base=version.base,
        base_sha256=version.base_sha256,
        kind=version.made or version.kind,
        artifact=version.artifact,
        parent=version.parents[0] if version.parents else None,
        against=against,
        came_in=arrival(version.snapshot, events),
        training=training(workspace, version, kept.training if kept else None),
        matrix=matrix,
        figures=_figures(matrix),
        verdict=verdict,
        learned=learned,
        cost=_cost(workspace, version),
        slots=slots,
        moves=history,
        advice=advise(version, verdict, learned, in_use=_in_use(workspace, number), tried=_tried(history)),
        notes=_notes(notes or (kept.notes if kept else {"data": version.snapshot.notes}), verdict),
    )


def _notes(notes: Mapping[str, tuple[str, ...]], verdict: Verdict | None) -> dict[str, tuple[str, ...]]:
    """What was said beside the verdict, which says its own."""
    told = set(verdict.notes if verdict else ())
    parts = sorted(notes, key=lambda part: (_PARTS.index(part) if part in _PARTS else len(_PARTS), part))
    return {part: tuple(one for one in notes[part] if one not in told) for part in parts}


def _figures(matrix: Matrix | None) -> dict[str, float | None]:
    return {one.name: one.value for one in figures(matrix) if one.name in SHOWN} if matrix else {}


def _cost(workspace: Workspace, version: Version) -> Cost:
    scored = workspace.ledger.reports(weights=version.artifact, aside=True)
    return Cost(
        train_s=version.train_seconds,
        cpu_s=version.cpu_seconds,
        evaluate_s=sum(report.seconds for report in scored),
        energy=version.energy,
        size_bytes=version.size_bytes,
        parameters=version.parameters,
    )


def _in_use(workspace: Workspace, number: int) -> bool:
    """Whether it is the champion, or the champion comes from it."""
    champion = workspace.ledger.slot("champion")
    return champion is not None and number in {one.number for one in ancestry(workspace, champion.version)}


def _tried(history: tuple[Move, ...]) -> bool:
    """Whether users have seen it once: then the next step is a person's to choose."""
    return any(not move.kind.startswith("judged") for move in history)


def _learned(workspace: Workspace, version: Version, against: int | None) -> tuple[Learned, ...]:
    """Tasks that the champion of then did not know, scored on both sides."""
    before = tasks_of(ancestry(workspace, against))
    mine = dict(devs(tasks_of(ancestry(workspace, version.number))))
    known = KnownReports(workspace)
    try:
        champion = workspace.ledger.version(against).artifact if against else workspace.base.identity
        found = []
        for task, dev in mine.items():
            if task not in before:
                old, new = (known.find(identity, task, dev) for identity in (champion, version.artifact))
                if old is not None and new is not None and old.metric == new.metric:
                    found.append(_rise(workspace, task, dev, old, new))
    except InputError:  # the base model is gone from its place, or a setting fits no longer: the verdict stays
        return ()
    return tuple(found)


def _rise(workspace: Workspace, task: str, dev: RowsFile, old: Report, new: Report) -> Learned:
    """A new task before and after, with the rows whose answers changed, as the gate lists those of kept tasks."""
    scores = [dict(zip(one.places, one.scores[one.metric], strict=True)) for one in (old, new)]
    places = sorted(scores[0].keys() & scores[1].keys())
    here = rows_path(workspace.memory, dev.sha256).is_file()
    rows = read_rows(workspace.memory, dev) if here else []
    pair = TaskPair(
        task=task,
        metric=new.metric,
        before=[scores[0][place] for place in places],
        after=[scores[1][place] for place in places],
        ids=[str(place) for place in places],
        prompts=[rows[place].prompt[-1].content if rows and rows[place].prompt else "" for place in places],
        answers_before=[old.said_at.get(place, "") for place in places],
        answers_after=[new.said_at.get(place, "") for place in places],
        read_in_order=True,
    )
    lost, gained = pair.flips()
    difference = paired(pair.before, pair.after)
    return Learned(
        task=task,
        metric=new.metric,
        rows=len(places),
        before=difference.before,
        after=difference.after,
        interval=(-difference.upper(_LEVEL), -difference.lower(_LEVEL)),
        lost=len(lost),
        gained=len(gained),
        flips=(*lost[:MOST_LOST], *gained[:MOST_GAINED]),
    )

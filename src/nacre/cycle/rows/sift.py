"""Rows on their way into an increment: those that were learned before or prove something elsewhere stay out."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from nacre.base.errors import InputError
from nacre.cycle.lineage import ancestry, tasks_of
from nacre.cycle.rows.past_dev import gather_dev
from nacre.cycle.workspace import Workspace
from nacre.data.compose.likeness import Likeness, plain
from nacre.data.compose.pieces import Piece, question_of
from nacre.data.compose.split import NEAR, split
from nacre.data.dataset import load
from nacre.data.rows import forgotten_ids, read_rows, rows_path
from nacre.data.snapshot import MAX_DEV_ROWS, MIN_DEV_ROWS, MIN_SPLIT_ROWS
from nacre.feedback.topics import labels_of
from nacre.records import Example

TOPIC = "topic"
LEARNED = "learned before"


@dataclass(frozen=True)
class Sifted:
    """Rows to train and to prove it, what was left out by reason, and sentences on what was done."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows on both sides."""
        return len(self.train) + len(self.dev)


@dataclass(frozen=True)
class Past:
    """What new rows are held against: rows that were learned, dev rows, ids of removed rows; and sentences on these."""

    learned: Sequence[Example]
    dev: Sequence[Example]
    gone: Collection[str]
    notes: tuple[str, ...]


def past_of(workspace: Workspace) -> Past:
    """Read what the champion's line learned, and every dev row there is.

    Raises:
        InputError: a dev file of the datasets as a whole cannot be read.
    """
    learned, notes = _learned(workspace)
    dev, said = gather_dev(workspace.root, workspace.dataset_dir, set())
    return Past(learned, dev, forgotten_ids(workspace.memory), (*notes, *said))


def sift(rows: Sequence[Example], past: Past, dev_share: float) -> Sifted:
    """Leave out what the champion's line learned or what is like a dev row, and split dev rows off.

    Both sides show the topics in proportion, and rows that are alike or ask the same are on one side.
    """
    left_out: Counter[str] = Counter()
    here = [row for row in rows if row.content_id not in past.gone]
    left_out["removed for good by nacre data forget"] = len(rows) - len(here)
    fresh = _unlike(here, past.learned)
    left_out[LEARNED] = len(here) - len(fresh)
    found = _divided(fresh, past.dev, dev_share, left_out)
    counts = {reason: count for reason, count in left_out.items() if count}
    return Sifted(found.train, found.dev, counts, (*past.notes, *found.notes))


def _learned(workspace: Workspace) -> tuple[list[Example], list[str]]:
    """Train rows of the champion's line, and of harvested increments that were never trained; and notes."""
    champion = workspace.ledger.slot("champion")
    files = {
        file.sha256
        for task in tasks_of(ancestry(workspace, champion.version if champion else None)).values()
        for file in task.train
    }
    rows, missing = [], 0
    for sha in sorted(files):
        if rows_path(workspace.memory, sha).is_file():
            rows += read_rows(workspace.memory, sha)
        else:
            missing += 1
    for name in waiting(workspace):
        rows += load(name, workspace.dataset_dir, "train").examples
    note = f"rows of {missing} earlier sets are not kept any more and could not be compared with"
    return rows, [note] if missing else []


def waiting(workspace: Workspace) -> list[str]:
    """Harvested increments that no version was trained on, oldest first."""
    made = {task for version in workspace.ledger.versions() for task in version.snapshot.task.split("+")}
    harvested = [one.detail["increment"] for one in workspace.ledger.events() if one.kind == "harvested"]
    return [name for name in dict.fromkeys(harvested) if name not in made and (workspace.dataset_dir / name).is_dir()]


def _unlike(rows: Sequence[Example], past: Sequence[Example]) -> list[Example]:
    """The rows that ask something else than those of the past with the same answers, or answer it otherwise."""
    by_answers: dict[tuple[object, ...], list[Example]] = {}
    for one in past:
        by_answers.setdefault(_answers(one), []).append(one)
    again: set[int] = set()
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(_answers(row), []).append(place)
    for answers, places in groups.items():
        others = by_answers.get(answers, [])
        if others:
            texts = [question_of(rows[place]) for place in places] + [question_of(one) for one in others]
            like = Likeness(texts, NEAR).like_any(range(len(places)), range(len(places), len(texts)))
            again.update(places[number] for number in like)
    return [row for place, row in enumerate(rows) if place not in again]


def _answers(row: Example) -> tuple[object, ...]:
    return (row.kind, row.desirable, *(plain(answer.content) for answer in row.answers))


def _divided(rows: Sequence[Example], dev: Sequence[Example], share: float, left_out: Counter[str]) -> Sifted:
    """The rows on two sides, without those like dev rows of other data."""
    labels = labels_of([row.prompt[-1].content for row in rows])
    pieces = [Piece(row).marked(**{TOPIC: label}) for row, label in zip(rows, labels, strict=True)]
    kept = list(_apart(pieces, dev, left_out))
    wanted = min(max(round(share * len(kept)), MIN_DEV_ROWS), MAX_DEV_ROWS)
    examples = tuple(piece.example for piece in kept)
    if len(kept) < MIN_SPLIT_ROWS:
        few = f"too few rows to split some off ({len(kept)} of {MIN_SPLIT_ROWS}): nothing can be proved about them"
        return Sifted(examples, (), {}, (few,) if kept else ())
    try:
        found = split(kept, wanted, by=TOPIC)
    except InputError as error:
        return Sifted(examples, (), {}, (f"{error.what}: nothing can be proved about them",))
    sides = [tuple(kept[place].example for place in side) for side in (found.train, found.dev)]
    return Sifted(sides[0], sides[1], {}, found.notes)


def _apart(pieces: Sequence[Piece], dev: Sequence[Example], left_out: Counter[str]) -> Iterator[Piece]:
    """Rows that are not like a dev row and do not ask what one asks."""
    asked = {plain(question_of(one)) for one in dev if one.kind != "text"}
    texts = [_text(piece.example) for piece in pieces] + [_text(one) for one in dev]
    like = Likeness(texts, NEAR).like_any(range(len(pieces)), range(len(pieces), len(texts)))
    for place, piece in enumerate(pieces):
        if plain(question_of(piece.example)) in asked:
            left_out["asks what a dev row asks"] += 1
        elif place in like:
            left_out["like a dev row"] += 1
        else:
            yield piece


def _text(row: Example) -> str:
    return "\n".join((row.system, *(turn.content for turn in (*row.prompt, *row.answers))))

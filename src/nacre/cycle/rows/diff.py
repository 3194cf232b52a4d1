"""What changed between two sets of rows: versions' snapshots, datasets, or files."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.base.errors import InputError
from nacre.cycle.lineage import versions_as_kept
from nacre.cycle.workspace import CONFIG, Workspace
from nacre.data.compose.likeness import plain
from nacre.data.compose.pieces import question_of
from nacre.data.dataset import load
from nacre.data.rows import read_rows
from nacre.data.strata import CLASS_CHARS, CLASS_ROWS
from nacre.records import Example, Snapshot

_VERSION = re.compile(r"v?(\d+)")
_SHOWN_CHARS = 120


@dataclass(frozen=True)
class Side:
    """One of the two: its name, its rows by part (train, dev), and how many rows could not be used."""

    name: str
    parts: dict[str, list[Example]]
    dropped: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Changed:
    """A question that is in both with another answer."""

    question: str
    before: str
    after: str


@dataclass(frozen=True)
class Part:
    """Train or dev rows of both sides.

    Attributes:
        added, removed: rows that are in the second or in the first alone, as often as they are.
        changed: questions that both have, with another answer.
        same: rows that both have.
        moved: rows of `added` that the first side has in its other part: a leak where train became dev.
        classes: of each short answer that comes back, how many rows before and after.
        figures: rows, distinct rows, mean characters and rows that could not be used, before and after.
    """

    added: tuple[Example, ...]
    removed: tuple[Example, ...]
    changed: tuple[Changed, ...]
    same: int
    moved: int
    classes: dict[str, tuple[int, int]]
    figures: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """The fields of ``--json``."""
        return {
            "added": [_told(row) for row in self.added],
            "removed": [_told(row) for row in self.removed],
            "changed": [vars(one) for one in self.changed],
            "same": self.same,
            "moved": self.moved,
            "classes": {name: list(counts) for name, counts in self.classes.items()},
            "figures": {name: list(values) for name, values in self.figures.items()},
        }


def side(name: str, workspace: Path, dataset_dir: Path) -> Side:
    """The rows that a name means: a version's number (``3`` or ``v3``), a dataset, or a file.

    Raises:
        InputError: there is nothing of that name.
        NacreError: the rows of a version are not kept any more.
    """
    number = _VERSION.fullmatch(name)
    if number and not Path(name).exists() and (workspace / CONFIG).is_file():
        with Workspace.open(workspace) as space:
            space.ledger.version(int(number[1]))
            version = next(one for one in versions_as_kept(space) if one.number == int(number[1]))
            return _of_snapshot(f"version {version.number}", version.snapshot, space)
    parts, dropped, notes = {}, 0, []
    for part in ("train", "dev"):
        found = load(name, dataset_dir, "train" if part == "train" else "dev")
        parts[part] = found.examples
        dropped += len(found.dropped)
        notes += found.notes
    return Side(name, parts, dropped, tuple(notes))


def _of_snapshot(name: str, snapshot: Snapshot, space: Workspace) -> Side:
    kept = snapshot.kept or snapshot.train
    train = read_rows(space.memory, kept)
    dev = read_rows(space.memory, snapshot.dev) if snapshot.dev else []
    notes = list(snapshot.notes)
    if kept.sha256 != snapshot.train.sha256:
        notes.append(f"{len(train)} of the {snapshot.train.rows} rows it was trained on are kept")
    return Side(name, {"train": train, "dev": dev}, len(snapshot.dropped), tuple(notes))


def diff(before: Side, after: Side) -> dict[str, Part]:
    """What changed, of train and of dev; parts that neither side has are left out.

    Raises:
        InputError: neither side has a row.
    """
    found = {}
    for part, other in (("train", "dev"), ("dev", "train")):
        if before.parts[part] or after.parts[part]:
            elsewhere = {row.content_id for row in before.parts[other]}
            dropped = (before.dropped, after.dropped) if part == "train" else None
            found[part] = _part(before.parts[part], after.parts[part], elsewhere, dropped)
    if not found:
        raise InputError("neither has a row", where=f"{before.name}, {after.name}", fix="name others")
    return found


def _part(
    before: Sequence[Example], after: Sequence[Example], elsewhere: set[str], dropped: tuple[int, int] | None
) -> Part:
    removed, added = _beyond(before, after), _beyond(after, before)
    same = len(before) - len(removed)
    changed: list[Changed] = []
    waiting: dict[str, list[Example]] = {}
    for row in removed:
        waiting.setdefault(plain(question_of(row)), []).append(row)
    new: list[Example] = []
    for row in added:
        was = waiting.get(plain(question_of(row))) if row.kind != "text" else None
        if was:
            changed.append(Changed(short(question_of(row)), short(was.pop(0).answer), short(row.answer)))
        else:
            new.append(row)
    left = {id(row) for rows in waiting.values() for row in rows}
    figures = {name: (one, two) for (name, one), (_, two) in zip(_figures(before), _figures(after), strict=True)}
    if dropped:
        figures["rows that cannot be used"] = dropped
    return Part(
        added=tuple(new),
        removed=tuple(row for row in removed if id(row) in left),
        changed=tuple(changed),
        same=same,
        moved=sum(row.content_id in elsewhere for row in new),
        classes=_classes(before, after),
        figures=figures,
    )


def _beyond(rows: Sequence[Example], others: Iterable[Example]) -> list[Example]:
    """The rows that the others do not have, as often as they are missing there."""
    held = Counter(row.content_id for row in others)
    found = []
    for row in rows:
        content = row.content_id
        if held[content]:
            held[content] -= 1
        else:
            found.append(row)
    return found


def _classes(before: Sequence[Example], after: Sequence[Example]) -> dict[str, tuple[int, int]]:
    counts = [Counter(row.answer.strip() for row in rows if row.kind != "text") for rows in (before, after)]
    names = sorted(name for name in counts[0].keys() | counts[1].keys() if 0 < len(name) <= CLASS_CHARS)
    return {
        name: (counts[0][name], counts[1][name])
        for name in names
        if max(counts[0][name], counts[1][name]) >= CLASS_ROWS
    }


def _figures(rows: Sequence[Example]) -> list[tuple[str, float]]:
    asked = [len(question_of(row)) for row in rows]
    answered = [len(row.answer) for row in rows]
    return [
        ("rows", len(rows)),
        ("different rows", len({row.content_id for row in rows})),
        ("mean characters asked", round(sum(asked) / max(1, len(asked)), 1)),
        ("mean characters answered", round(sum(answered) / max(1, len(answered)), 1)),
    ]


def short(text: str) -> str:
    """The beginning of a text, to be shown."""
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def _told(row: Example) -> dict[str, Any]:
    origin = row.origin
    return {
        "question": short(question_of(row)),
        "answer": short(row.answer),
        "file": origin.file,
        "line": origin.line,
        "id": row.content_id,
    }

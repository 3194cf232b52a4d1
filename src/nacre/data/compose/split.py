"""Train and dev rows that have nothing in common: no row of dev is in train, nor one like it.

What belongs together goes to one side: rows that are equal or nearly so, rows that ask the same, rows that were made
from one row (`nacre data compose`), and rows with the same value in a column such as a user. Rows that are like dev
rows of earlier increments go to neither side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nacre.base.errors import InputError, unknown
from nacre.base.hashing import sha256_text
from nacre.data.compose.likeness import Likeness, Sets, plain
from nacre.data.compose.pieces import DEMONSTRATIONS, Piece, place_of, question_of, text_of
from nacre.data.strata import clusters_for, seats, stratify
from nacre.records import Example

NEAR = 0.8
_UNDIVIDED = "answers whose rows belong together"


@dataclass(frozen=True)
class Split:
    """Rows on their sides.

    Attributes:
        train, dev: places among the rows given, in their order.
        left_out: rows that are like a dev row of earlier data, each with the reason.
        together: rows that are on a side because others are there: equal ones, near duplicates, the same question, made
            from one row, or of one group; counted by that reason.
        classes: of each class or cluster how many rows are in train and in dev.
        notes: what was decided on the way.
    """

    train: tuple[int, ...]
    dev: tuple[int, ...]
    left_out: dict[int, str]
    together: dict[str, int]
    classes: dict[str, tuple[int, int]]
    notes: tuple[str, ...]


def split(
    rows: Sequence[Piece],
    dev: float,
    *,
    near: float = NEAR,
    group: str | None = None,
    by: str | None = None,
    past: Sequence[Example] = (),
    seed: int = 0,
) -> Split:
    """Split rows so that nothing of dev can be known from train.

    Args:
        rows: what is split.
        dev: share of the rows below 1, or their number.
        near: Jaccard coefficient of 5-character pieces from which two rows are near duplicates; above 1: equal rows
            alone.
        group: a column whose equal values stay on one side.
        by: a column whose classes both sides show in proportion; default: short answers that come back.
        past: dev rows of earlier data, which must be in neither side.
        seed: of the choice among rows that may go to either side.

    Raises:
        InputError: a column that no row has, rows that cannot be divided, or rows that show others in their prompts.
    """
    _refuse_shown(rows)
    found = Likeness([text_of(row.example) for row in rows] + [text_of(one) for one in past], near)
    like = found.like_any(range(len(rows)), range(len(rows), len(rows) + len(past)))
    asked = {plain(question_of(one)) for one in past if one.kind != "text"}
    left_out = dict.fromkeys(like, "like a dev row of earlier data")
    for place, row in enumerate(rows):
        if row.example.kind != "text" and plain(question_of(row.example)) in asked:
            left_out.setdefault(place, "asks what a dev row of earlier data asks")
    sets, together = _together(rows, found, group)
    strata = _strata(rows, by, dev, seed)
    here = [place for place in range(len(rows)) if place not in left_out]
    parts = _parts(here, sets, rows, seed)
    if by is None:
        _merge_undivided(strata, parts)
    wanted = _wanted(dev, len(here))
    targets = _targets(here, strata, wanted)
    chosen = _choose(parts, strata, targets)
    dev_places = tuple(sorted(place for part in chosen for place in part))
    train = tuple(sorted(set(here) - set(dev_places)))
    if not dev_places or not train:
        raise _one_piece(parts, len(here))
    sides = {name: [0, 0] for name in dict.fromkeys(strata)}
    for side, places in enumerate((train, dev_places)):
        for place in places:
            sides[strata[place]][side] += 1
    notes = _said(parts, len(here), wanted, len(dev_places), left_out)
    classes = {name: (one, two) for name, (one, two) in sorted(sides.items())}
    if missing := [name for name, target in targets.items() if target and not classes[name][1]]:
        notes = (*notes, f"dev has no row of {', '.join(missing)}: all of them belong together")
    return Split(train, dev_places, left_out, together, classes, notes)


def _refuse_shown(rows: Sequence[Piece]) -> None:
    if shown := sum(DEMONSTRATIONS in row.example.origin.extra for row in rows):
        fix = "split the rows first, then compose the train side with demonstrations"
        what = f"{shown} rows show other rows in their prompts, so that no side would be without the other"
        raise InputError(what, where="nacre data split", fix=fix)


def _wanted(dev: float, count: int) -> int:
    """The number of dev rows that is asked for."""
    wanted = round(dev * count) if dev < 1 else int(dev)
    if dev > 1 and dev != wanted:
        raise InputError(f"{dev:g} is no number of rows", where="--dev", fix="give a share below 1, or a whole number")
    if not 0 < wanted < count:
        fix = "give a share between 0 and 1, or fewer dev rows than there are"
        raise InputError(f"{wanted} of {count} rows cannot be dev rows", where="nacre data split", fix=fix)
    return wanted


def _together(rows: Sequence[Piece], found: Likeness, group: str | None) -> tuple[Sets, dict[str, int]]:
    """The sets of rows that stay together, and how many rows joined others for which reason."""
    count = len(rows)
    sets = Sets(count)
    counts: dict[str, int] = {}
    before = count

    def said(reason: str) -> None:
        nonlocal before
        now = len({sets.root(place) for place in range(count)})
        counts[reason] = before - now
        before = now

    sets.join_equal([plain(text_of(row.example)) for row in rows])
    said("equal")
    found.join(sets, count)
    said("near duplicates")
    asked = [plain(question_of(row.example)) if row.example.kind != "text" else None for row in rows]
    sets.join_equal(asked)
    said("same question")
    sets.join_equal([place_of(row.example) for row in rows])
    said("made from one row")
    if group is not None:
        values = [row.column(group) for row in rows]
        _refuse_unknown(rows, values, group, "--group")
        sets.join_equal([None if value is None else str(value) for value in values])
        said("same group")
    return sets, counts


def _refuse_unknown(rows: Sequence[Piece], values: Sequence[Any], name: str, where: str) -> None:
    if all(value is None for value in values):
        known = {column for row in rows for column in (*(row.raw or {}), *row.example.origin.extra)}
        raise unknown("column", name, known, where=where)


def _strata(rows: Sequence[Piece], by: str | None, dev: float, seed: int) -> list[str]:
    """The class or cluster of each row."""
    if by is not None:
        values = [row.column(by) for row in rows]
        _refuse_unknown(rows, values, by, "--class")
        return ["none" if value is None else str(value) for value in values]
    wanted = round(dev * len(rows)) if dev < 1 else int(dev)
    found = stratify([row.example for row in rows], clusters=clusters_for(wanted, 10), seed=seed)
    strata = [""] * len(rows)
    for name, places in found.items():
        for place in places:
            strata[place] = name
    return strata


def _merge_undivided(strata: list[str], parts: Sequence[Sequence[int]]) -> None:
    """Put the classes whose rows all belong together into one: by itself none of them could be on both sides."""
    times = Counter(name for part in parts for name in {strata[place] for place in part})
    for part in parts:
        for place in part:
            if times[strata[place]] == 1:
                strata[place] = _UNDIVIDED


def _parts(here: Sequence[int], sets: Sets, rows: Sequence[Piece], seed: int) -> list[list[int]]:
    """What must stay together, in an order of chance that follows from the content."""
    found: dict[int, list[int]] = {}
    for place in here:
        found.setdefault(sets.root(place), []).append(place)
    hashes = {place: sha256_text(f"{seed}/{rows[place].example.content_id}") for place in here}
    return sorted(found.values(), key=lambda part: (min(hashes[place] for place in part), part[0]))


def _targets(here: Sequence[int], strata: Sequence[str], wanted: int) -> dict[str, int]:
    sizes = Counter(strata[place] for place in here)
    names = sorted(sizes)
    return dict(zip(names, seats([sizes[name] for name in names], wanted, [0] * len(names)), strict=True))


def _choose(parts: Sequence[list[int]], strata: Sequence[str], targets: dict[str, int]) -> list[list[int]]:
    """Parts for dev: first those that fit, then those that bring it nearer to what is wanted of each class."""
    left = dict(targets)
    chosen, others = [], []
    for part in parts:
        need = Counter(strata[place] for place in part)
        if all(left[name] >= count for name, count in need.items()):
            chosen.append(part)
            for name, count in need.items():
                left[name] -= count
        else:
            others.append((part, need))
    over = []
    for part, need in others:
        if sum(abs(left[name] - count) - abs(left[name]) for name, count in need.items()) < 0:
            chosen.append(part)
            for name, count in need.items():
                left[name] -= count
        else:
            over.append(part)
    _show_all(chosen, over, strata, targets)
    _fill(chosen, over, strata, sum(targets.values()))
    return chosen


def _fill(chosen: list[list[int]], others: Sequence[list[int]], strata: Sequence[str], wanted: int) -> None:
    """Bring more parts to dev where that comes nearer to the number wanted: parts can be larger than what each class
    is to give. No class loses its last rows in train."""
    left = Counter(strata[place] for part in others for place in part)
    missing = wanted - sum(map(len, chosen))
    for part in others:
        need = Counter(strata[place] for place in part)
        if len(part) < 2 * missing and all(left[name] > count for name, count in need.items()):
            chosen.append(part)
            left -= need
            missing -= len(part)


def _show_all(
    chosen: list[list[int]], others: list[list[int]], strata: Sequence[str], targets: Mapping[str, int]
) -> None:
    """Bring one part, the smallest, to dev of each class that would be missing there, where train keeps some of it."""
    for name, target in targets.items():
        if not target or any(strata[place] == name for part in chosen for place in part):
            continue
        having = [part for part in others if any(strata[place] == name for place in part)]
        if len(having) > 1:
            part = min(having, key=len)
            chosen.append(part)
            others.remove(part)


def _said(parts: Sequence[list[int]], count: int, wanted: int, found: int, left_out: dict[int, str]) -> tuple[str, ...]:
    notes = []
    if found != wanted:
        largest = max(map(len, parts))
        why = f"rows that belong together are not divided; the most that do are {largest} of {count}"
        notes.append(f"{found} dev rows, not {wanted}: {why}")
    if left_out:
        notes.append(f"{len(left_out)} rows are like dev rows of earlier data and are on neither side")
    return tuple(notes)


def _one_piece(parts: Sequence[list[int]], count: int) -> InputError:
    largest = max(map(len, parts))
    return InputError(
        f"the rows cannot be divided: {largest} of {count} belong together (near duplicates, one question, made from "
        "one row, one group)",
        where="nacre data split",
        fix="raise --near (2: only equal rows count), take another --group, or add rows that are different",
    )

"""Classes brought to a stated ratio, by leaving rows of the large ones out or repeating rows of the small ones."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError, unknown
from nacre.base.hashing import sha256_text
from nacre.data.compose.pieces import Piece
from nacre.data.strata import CLASS_CHARS, CLASS_ROWS

ANSWER = "answer"


class Balance(Settings):
    """Settings of the balance of classes."""

    by: str = Field(ANSWER, description="answer: short answers that come back are classes; or the name of a column")
    ratio: float = Field(3.0, ge=1, description="of the largest class to the smallest, at most")
    how: Literal["under", "over"] = Field(
        "under", description="leave rows of large classes out, or repeat rows of small ones"
    )
    max_repeats: int = Field(10, ge=1, description="with over: how often a row may stand there at most")


def classes_of(rows: Sequence[Piece], by: str) -> list[str | None]:
    """The class of each row; None where it has none.

    Raises:
        InputError: no row has the column.
    """
    if by != ANSWER:
        values = [row.column(by) for row in rows]
        if all(value is None for value in values):
            known = {name for row in rows for name in (*(row.raw or {}), *row.example.origin.extra)}
            raise unknown("column", by, known, where="balance, key by")
        return [None if value is None else str(value) for value in values]
    answers = [row.example.answer.strip() for row in rows]
    often = Counter(answers)
    return [
        answer if answer and len(answer) <= CLASS_CHARS and often[answer] >= CLASS_ROWS else None for answer in answers
    ]


def balance(rows: Sequence[Piece], settings: Balance, seed: int) -> tuple[list[Piece], list[str]]:
    """The rows, so that the largest class has at most `ratio` times as many as the smallest; and what was done.

    Which rows go or come again follows from their content and the seed. Rows without a class stay as they are. A row
    that comes again says so in the column `copy`.

    Raises:
        InputError: there are fewer than two classes.
    """
    classes = classes_of(rows, settings.by)
    sizes = Counter(name for name in classes if name is not None)
    if len(sizes) < 2:
        what = f"{len(sizes)} classes were found: there is nothing to balance"
        fix = "name a column with balance: {by: COLUMN}, or leave balance out"
        raise InputError(what, where=f"balance, key by: {settings.by}", fix=fix)
    wanted = _wanted(sizes, settings)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(classes):
        if name is not None:
            places.setdefault(name, []).append(place)
    times = [1] * len(rows)
    for name, held in places.items():
        order = sorted(held, key=lambda place: (sha256_text(f"{seed}/{rows[place].example.content_id}"), place))
        whole, rest = divmod(wanted[name], len(held))
        for rank, place in enumerate(order):
            times[place] = whole + (rank < rest)
    found: list[Piece] = []
    for row, count in zip(rows, times, strict=True):
        found += [row if copy == 1 else row.marked(copy=copy) for copy in range(1, count + 1)]
    return found, _said(classes, sizes, wanted, settings)


def _wanted(sizes: Counter[str], settings: Balance) -> dict[str, int]:
    if settings.how == "under":
        most = math.floor(settings.ratio * min(sizes.values()) + 1e-9)
        return {name: min(size, most) for name, size in sizes.items()}
    least = math.ceil(max(sizes.values()) / settings.ratio - 1e-9)
    return {name: max(size, min(least, size * settings.max_repeats)) for name, size in sizes.items()}


def _said(classes: Sequence[str | None], sizes: Counter[str], wanted: dict[str, int], settings: Balance) -> list[str]:
    before, after = _ratio(sizes.values()), _ratio(wanted.values())
    left = sum(max(0, sizes[name] - wanted[name]) for name in sizes)
    more = sum(max(0, wanted[name] - sizes[name]) for name in sizes)
    done = f"{left} rows were left out" if settings.how == "under" else f"{more} rows stand there once more"
    notes = [f"balance: largest to smallest class was {before:.2f} to 1 and is {after:.2f} to 1; {done}"]
    if after > settings.ratio + 1e-9:
        notes.append(f"balance: {settings.ratio:g} to 1 was not reached: max_repeats is {settings.max_repeats}")
    if none := sum(name is None for name in classes):
        notes.append(f"balance: {none} rows have no class and stay as they are")
    return notes


def _ratio(sizes: Collection[int]) -> float:
    return max(sizes) / min(sizes)

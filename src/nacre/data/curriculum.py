"""In which order new rows are learned: easy before hard, and which dataset a row belongs to.

A curriculum acts on the first pass over the rows alone; later passes are shuffled, because a model that sees the
hard rows last and never again in between learns the easy ones worse (Bengio et al. 2009, "Curriculum Learning",
lets the easy part grow into the whole set in the same way).
"""

import random
from collections.abc import Sequence
from pathlib import PurePath

from nacre.base.errors import InputError, unknown
from nacre.records import Example

COLUMN = "column:"


def dataset_of(row: Example) -> str:
    """The name of the dataset that a row came from: its task, or else the name of its file."""
    return row.origin.task or PurePath(row.origin.file).stem or "unnamed"


def by_dataset(rows: Sequence[Example]) -> dict[str, list[Example]]:
    """The rows of each dataset, in the order in which the datasets first appear."""
    found: dict[str, list[Example]] = {}
    for row in rows:
        found.setdefault(dataset_of(row), []).append(row)
    return found


def easy_first(rows: Sequence[Example], difficulty: Sequence[float | str], seed: int) -> list[Example]:
    """The rows by rising difficulty; those that are equally hard in an order of chance."""
    places = random.Random(f"{seed}/curriculum").sample(range(len(rows)), len(rows))
    return [rows[place] for place in sorted(places, key=lambda place: difficulty[place])]


def lengths(rows: Sequence[Example]) -> list[float]:
    """Characters of each row: system text, prompt and answers."""
    return [float(len(row.system) + sum(len(turn.content) for turn in (*row.prompt, *row.answers))) for row in rows]


def column(rows: Sequence[Example], name: str) -> tuple[list[float] | list[str], int]:
    """The value of a column of each row, for sorting, and how many rows have none: they come last.

    In numeric order where every value is a number or reads as one, in the order of text where none does.

    Raises:
        InputError: no row has the column (names the nearest one there is), or it mixes numbers and other text, of which
            no order says what is harder.
    """
    values = [row.origin.extra.get(name) for row in rows]
    missing = sum(value is None for value in values)
    if missing == len(rows):
        known = sorted({other for row in rows for other in row.origin.extra})
        if known:
            raise unknown("column", name, known, where=f"train.curriculum {COLUMN}{name}")
        what = f"no row has the column '{name}', or any other beside those that are trained on"
        raise InputError(what, where=f"train.curriculum {COLUMN}{name}", fix="add it to the rows, as a number or text")
    numbers = [_number(value) for value in values if value is not None]
    if all(number is not None for number in numbers):
        found = iter(numbers)
        return [float("inf") if value is None else float(next(found) or 0.0) for value in values], missing
    if any(number is not None for number in numbers):
        other = next(str(value) for value in values if value is not None and _number(value) is None)
        count = sum(number is None for number in numbers)
        what = (
            f"the column '{name}' mixes numbers and text: {count} of {len(numbers)} are no numbers, such as {other!r}"
        )
        fix = "write numbers alone or words alone; rows without a value come last"
        raise InputError(what, where=f"train.curriculum {COLUMN}{name}", fix=fix)
    return ["\U0010ffff" if value is None else str(value) for value in values], missing


def _number(value: str | int | float) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number == number else None  # not a number sorts nowhere

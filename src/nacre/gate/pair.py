"""Scores of one task before and after, row by row, and the order in which the gate reads them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from nacre.records import Flip

EXCERPT = 200  # characters of a prompt or an answer that a flip shows
MOST_LOST, MOST_GAINED = 50, 20  # flips that a verdict lists; all are counted
RIGHT = 0.5  # a score of at least this much is called right, where scores are not just 0 and 1


@dataclass(frozen=True)
class TaskPair:
    """Scores in [0, 1] of one kept task, row by row: the champion's and the candidate's, same rows, same order.

    Attributes:
        ids: an identity for each row, which alone decides the order in which rows are read; default: its place.
        prompts, answers_before, answers_after: to show flips by example, where they are known.
        rows_of: rows the task has, where fewer of them were scored.
        read_in_order: the rows stand in the order they were read in already, and `ids` are their places.
        first: so many rows, the first that were read, decide how wide an automatic margin is; default: all.
        doubt: why these rows do not speak for the whole task, so that it cannot pass; empty where they do.
    """

    task: str
    metric: str
    before: Sequence[float]
    after: Sequence[float]
    ids: Sequence[str] = ()
    prompts: Sequence[str] = ()
    answers_before: Sequence[str] = ()
    answers_after: Sequence[str] = ()
    rows_of: int | None = None
    read_in_order: bool = False
    first: int | None = None
    doubt: str = ""

    def differences(self) -> list[float]:
        """Before - after in the order of reading."""
        places = range(len(self.before)) if self.read_in_order else reading_order(self._names())
        return [self.before[place] - self.after[place] for place in places]

    def flips(self) -> tuple[list[Flip], list[Flip]]:
        """Rows that went from right to wrong, and from wrong to right, in the order they stand in."""
        lost: list[Flip] = []
        gained: list[Flip] = []
        for place, (old, new) in enumerate(zip(self.before, self.after, strict=True)):
            if (old >= RIGHT) != (new >= RIGHT):
                (lost if new < old else gained).append(self._flip(place))
        return lost, gained

    def _flip(self, place: int) -> Flip:
        named = self.ids[place] if self.ids else ""
        return Flip(
            row=int(named) if self.read_in_order and named.isdigit() else place,
            identity="" if self.read_in_order else named,
            prompt=_excerpt(self.prompts, place),
            before=self.before[place],
            after=self.after[place],
            answer_before=_excerpt(self.answers_before, place),
            answer_after=_excerpt(self.answers_after, place),
        )

    def _names(self) -> Sequence[str]:
        return self.ids or [str(place) for place in range(len(self.before))]


def reading_order(names: Sequence[str]) -> list[int]:
    """Places of the rows in an order of chance that is always the same: by the hash of each row's name.

    Dev files are often sorted, by label say, and a test that may stop early must not see one kind of row first.
    """
    return sorted(range(len(names)), key=lambda place: hashlib.sha256(names[place].encode()).digest())


def _excerpt(texts: Sequence[str], place: int) -> str:
    text = texts[place] if place < len(texts) else ""
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"

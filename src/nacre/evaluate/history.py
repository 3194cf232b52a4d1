"""Scores of all versions on all tasks, however their history branches, and the line that led to each of them."""

from typing import Literal, Self

from pydantic import model_validator

from nacre.evaluate.matrix import General, Matrix, State
from nacre.records import Record


class GeneralScores(Record):
    """Something no increment teaches, asked of the base model and of every version; see `General`."""

    name: str
    measure: Literal["score", "perplexity"]
    base: float | None
    versions: tuple[float | None, ...]


class History(Record):
    """Scores of versions on tasks.

    Attributes:
        versions: one label per row, oldest first; `numbers` has the versions' numbers.
        parents: per row, the rows it was made from; none for one made from the base model.
        taught: per row, the columns of the tasks it was taught; none where its task has no dev rows.
        tasks: one label per column, in order of arrival.
        cells: mean scores in [0, 1], None where a version was not scored on a task.
        base: scores of the untrained base model per task.
        joint, plain: rows of the versions that were named, or found, as brackets.
    """

    versions: tuple[str, ...]
    numbers: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    taught: tuple[tuple[int, ...], ...]
    tasks: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    base: tuple[float | None, ...]
    joint: int | None = None
    plain: int | None = None
    general: tuple[GeneralScores, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rows, columns = len(self.versions), len(self.tasks)
        if not rows or not columns:
            raise ValueError("a history needs at least one version and one task")
        per_row = (self.numbers, self.parents, self.taught, self.cells, *(each.versions for each in self.general))
        if any(len(found) != rows for found in per_row):
            raise ValueError(f"numbers, parents, taught, cells and general scores must have {rows} rows")
        if any(len(row) != columns for row in (*self.cells, self.base)):
            raise ValueError(f"every row of cells, and base, must hold {columns} scores")
        if any(parent >= row for row, found in enumerate(self.parents) for parent in found):
            raise ValueError("a version's parents must be older rows")
        return self

    def line_rows(self, row: int) -> list[int]:
        """The rows that led to a row over all its parents, oldest first, itself last."""
        found = {row}
        for one in range(row, -1, -1):
            if one in found:
                found.update(self.parents[one])
        return sorted(found)

    def state(self, row: int, task: int) -> State:
        """What the version of this row knew of this task."""
        learned = [one for one in self.line_rows(row) if task in self.taught[one]]
        if not learned:
            return "before"
        return "learned" if learned[0] == row else "known"

    def line(self, row: int) -> Matrix | None:
        """The matrix of the line that led to a row; None when none of its tasks has dev rows."""
        rows = self.line_rows(row)
        place = {one: where for where, one in enumerate(rows)}
        learned: dict[int, int] = {}
        for one in rows:
            for task in self.taught[one]:
                learned.setdefault(task, place[one])
        if not learned:
            return None
        columns = list(learned)
        return Matrix(
            versions=tuple(self.versions[one] for one in rows),
            tasks=tuple(self.tasks[column] for column in columns),
            cells=tuple(_pick(self.cells[one], columns) for one in rows),
            learned_at=tuple(learned.values()),
            parents=tuple(tuple(place[parent] for parent in self.parents[one]) for one in rows),
            base=_pick(self.base, columns),
            joint=self._bracket(self.joint, columns),
            plain=self._bracket(self.plain, columns),
            general=tuple(
                General(name=each.name, measure=each.measure, base=each.base, version=each.versions[row])
                for each in self.general
            ),
        )

    def _bracket(self, bracket: int | None, columns: list[int]) -> tuple[float | None, ...]:
        """Scores of the bracket on these tasks; empty where there is none, or where it knows other tasks than these."""
        if bracket is None:
            return ()
        known = {column for column in range(len(self.tasks)) if self.state(bracket, column) != "before"}
        if known != set(columns):
            return ()
        return _pick(self.cells[bracket], columns)


def _pick(scores: tuple[float | None, ...], columns: list[int]) -> tuple[float | None, ...]:
    return tuple(scores[column] for column in columns)

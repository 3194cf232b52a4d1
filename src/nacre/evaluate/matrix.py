"""The accuracy matrix and what is read off it: average accuracy, BWT, forgetting, learning accuracy, FWT.

a[i][j] is the mean score of version i on task j; version L is the last one, version l_j the one that
learned task j. Papers define these figures differently, so each carries its definition and its source.
"""

from collections.abc import Callable, Sequence
from typing import Self

from pydantic import model_validator

from nacre.records import Record

Cell = tuple[int, int]  # row, column

_DEFINITIONS = {
    "average accuracy": ("mean over all tasks j of a[L][j]", "Lopez-Paz & Ranzato 2017 (GEM), ACC"),
    "BWT": ("mean over tasks j learned before L of a[L][j] - a[l_j][j]", "Lopez-Paz & Ranzato 2017 (GEM), BWT"),
    "forgetting": (
        "mean over tasks j learned before L of (max over i from l_j to L-1 of a[i][j]) - a[L][j]",
        "Chaudhry et al. 2018, F",
    ),
    "learning accuracy": ("mean over all tasks j of a[l_j][j]", "Riemer et al. 2019 (MER), LA"),
    "FWT": ("mean over tasks j not learned first of a[l_j - 1][j] - base[j]", "Lopez-Paz & Ranzato 2017 (GEM), FWT"),
}


class Figure(Record):
    """One number with its definition and source; `value` is None when it cannot be computed, and `reason` says why."""

    name: str
    value: float | None
    reason: str = ""
    definition: str
    source: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name} not known ({self.reason})"
        return f"{self.name} {self.value:+.3f}" if self.name in ("BWT", "FWT") else f"{self.name} {self.value:.3f}"


class Matrix(Record):
    """Scores of every version in one line of descent on every task.

    Attributes:
        versions: one label per row, oldest first.
        tasks: one label per column, in order of arrival.
        cells: mean scores in [0, 1], None where a version was not scored on a task.
        learned_at: per task, the row of the version that learned it first.
        base: scores of the untrained base model per task; empty when unknown.
    """

    versions: tuple[str, ...]
    tasks: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    learned_at: tuple[int, ...]
    base: tuple[float | None, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rows, columns = len(self.versions), len(self.tasks)
        if not rows or not columns:
            raise ValueError("a matrix needs at least one version and one task")
        if len(self.cells) != rows or any(len(row) != columns for row in self.cells):
            raise ValueError(f"cells must be {rows} rows of {columns}")
        if len(self.learned_at) != columns or not all(0 <= row < rows for row in self.learned_at):
            raise ValueError(f"learned_at must name one of the {rows} rows for each of the {columns} tasks")
        if self.base and len(self.base) != columns:
            raise ValueError(f"base must hold {columns} scores")
        return self

    @property
    def last(self) -> int:
        """The row of the newest version."""
        return len(self.versions) - 1

    @property
    def old_tasks(self) -> list[int]:
        """Columns of the tasks that were learned before the newest version."""
        return [task for task, row in enumerate(self.learned_at) if row < self.last]


def average_accuracy(matrix: Matrix) -> Figure:
    """AA: how good the newest version is at everything it was taught."""
    cells = [(matrix.last, task) for task in range(len(matrix.tasks))]
    return _mean(matrix, "average accuracy", cells, lambda: [_at(matrix, cell) for cell in cells])


def bwt(matrix: Matrix) -> Figure:
    """Backward transfer: what later training did to earlier tasks; negative is forgetting."""
    pairs = [((matrix.last, task), (matrix.learned_at[task], task)) for task in matrix.old_tasks]
    cells = [cell for pair in pairs for cell in pair]
    return _mean(matrix, "BWT", cells, lambda: [_at(matrix, after) - _at(matrix, before) for after, before in pairs])


def forgetting(matrix: Matrix) -> Figure:
    """FM: the drop from the best score a task had since it was learned; negative when it is now better than ever."""
    spans = [[(row, task) for row in range(matrix.learned_at[task], matrix.last + 1)] for task in matrix.old_tasks]
    cells = [cell for span in spans for cell in span]

    def drops() -> list[float]:
        return [max(_at(matrix, cell) for cell in span[:-1]) - _at(matrix, span[-1]) for span in spans]

    return _mean(matrix, "forgetting", cells, drops)


def learning_accuracy(matrix: Matrix) -> Figure:
    """LA: how well each task was learned when it was its turn (plasticity)."""
    cells = [(row, task) for task, row in enumerate(matrix.learned_at)]
    return _mean(matrix, "learning accuracy", cells, lambda: [_at(matrix, cell) for cell in cells])


def fwt(matrix: Matrix) -> Figure:
    """Forward transfer: what earlier training did for a task before it was learned, against the base model."""
    cells = [(row - 1, task) for task, row in enumerate(matrix.learned_at) if row > 0]
    known = {task: score for task, score in enumerate(matrix.base) if score is not None}
    missing = [f"base model on {matrix.tasks[task]}" for _, task in cells if task not in known]
    missing = missing if known else ["base model"]
    return _mean(matrix, "FWT", cells, lambda: [_at(matrix, cell) - known[cell[1]] for cell in cells], missing)


def figures(matrix: Matrix) -> tuple[Figure, ...]:
    """Every figure, in the order in which they are read."""
    return tuple(read(matrix) for read in (average_accuracy, bwt, forgetting, learning_accuracy, fwt))


def _mean(
    matrix: Matrix,
    name: str,
    cells: Sequence[Cell],
    terms: Callable[[], list[float]],
    missing: Sequence[str] = (),
) -> Figure:
    """The mean of `terms`, which are asked for only when every one of `cells` is known and nothing is `missing`."""
    unscored = [
        f"{matrix.versions[row]} on {matrix.tasks[task]}" for row, task in cells if matrix.cells[row][task] is None
    ]
    unscored = list(dict.fromkeys([*unscored, *missing]))
    definition, source = _DEFINITIONS[name]
    if unscored or not cells:
        reason = f"not scored: {', '.join(unscored)}" if cells else "it needs one task learned before another"
        return Figure(name=name, value=None, reason=reason, definition=definition, source=source)
    values = terms()
    return Figure(name=name, value=sum(values) / len(values), definition=definition, source=source)


def _at(matrix: Matrix, cell: Cell) -> float:
    score = matrix.cells[cell[0]][cell[1]]
    assert score is not None, "_mean has checked it"
    return score

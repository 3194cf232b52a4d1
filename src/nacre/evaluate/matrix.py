"""The accuracy matrix and what is read off it: average accuracy, transfer, forgetting, general ability, brackets.

a[i][j] is the mean score of version i on task j; version L is the one looked at, version l_j the one that learned
task j. Papers define these figures differently, so each carries its definition and its source. What is read beside
the tasks: g[i][k] is the score of version i on general task k, ppl[i][k] its perplexity on general text k; joint is a
version trained on all tasks at once, plain one trained on them in turn with nothing protected.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, Self

from pydantic import model_validator

from nacre.records import Record

Cell = tuple[int, int]  # row, column
State = Literal["learned", "known", "before"]  # of a cell: its version was taught the task, knows it, does not know it

_GEM = "Lopez-Paz & Ranzato 2017 (GEM)"
_TRACE = "Wang et al. 2023 (TRACE)"
_DEFINITIONS = {
    "average accuracy": ("mean over all tasks j of a[L][j]", f"{_GEM}, ACC"),
    "BWT": ("mean over tasks j learned before L of a[L][j] - a[l_j][j]", f"{_GEM}, BWT"),
    "BWT (TRACE)": (
        "mean over all tasks j of a[L][j] - a[l_j][j]: the task learned last counts, with 0",
        f"{_TRACE}, section 3, BWT",
    ),
    "forgetting": (
        "mean over tasks j learned before L of (max over i from l_j to L-1 of a[i][j]) - a[L][j]",
        "Chaudhry et al. 2018, F",
    ),
    "learning accuracy": ("mean over all tasks j of a[l_j][j]", "Riemer et al. 2019 (MER), LA"),
    "FWT": ("mean over tasks j not learned first of a[l_j - 1][j] - base[j]", f"{_GEM}, FWT"),
    "general delta": ("mean over general tasks k of g[L][k] - g[base][k]", f"{_TRACE}, section 4.2, General Ability"),
    "general perplexity ratio": (
        "geometric mean over general texts k of ppl[L][k] / ppl[base][k]",
        "no paper: perplexity relative to the base model",
    ),
    "gap to joint": ("mean over all tasks j of joint[j] - a[L][j]", f"{_GEM}, ACC of two versions, joint's less L's"),
    "gap closed": (
        "(mean a[L][j] - mean plain[j]) / (mean joint[j] - mean plain[j]) over all tasks j",
        "no paper: ACC between its two brackets",
    ),
}
_SIGNED = ("BWT", "BWT (TRACE)", "FWT", "general delta", "gap to joint")
_BESIDE = ("general delta", "general perplexity ratio", "gap to joint", "gap closed")  # need more than the cells


class Grid(Protocol):
    """What can be painted: scores of versions on tasks, and what each version knew."""

    @property
    def versions(self) -> tuple[str, ...]:
        """One label per row."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """One label per column."""

    @property
    def cells(self) -> tuple[tuple[float | None, ...], ...]:
        """Mean scores in [0, 1], None where there is none."""

    def state(self, row: int, task: int) -> State:
        """What the version of this row knew of this task."""


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
        return f"{self.name} {self.value:+.3f}" if self.name in _SIGNED else f"{self.name} {self.value:.3f}"


class General(Record):
    """Something no increment teaches, asked of the base model and of the version looked at.

    Attributes:
        measure: `score` is in [0, 1] and better when higher, `perplexity` is better when lower.
        base, version: what each was measured at; None where nobody has scored it.
    """

    name: str
    measure: Literal["score", "perplexity"]
    base: float | None
    version: float | None


class Matrix(Record):
    """Scores of every version that led to one version, on every task it knows.

    Attributes:
        versions: one label per row, oldest first; the last one is the version looked at.
        tasks: one label per column, in order of arrival.
        cells: mean scores in [0, 1], None where a version was not scored on a task.
        learned_at: per task, the row of the version that learned it first.
        parents: per row, the rows it was made from, several for a merge; empty: each from the one before.
        base: scores of the untrained base model per task; empty when unknown.
        joint: scores of a version trained on all tasks at once; empty when there is none.
        plain: scores of a version trained on the tasks in turn with nothing protected; empty when there is none.
        general: what was measured beside the tasks.
    """

    versions: tuple[str, ...]
    tasks: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    learned_at: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...] = ()
    base: tuple[float | None, ...] = ()
    joint: tuple[float | None, ...] = ()
    plain: tuple[float | None, ...] = ()
    general: tuple[General, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rows, columns = len(self.versions), len(self.tasks)
        if not rows or not columns:
            raise ValueError("a matrix needs at least one version and one task")
        if len(self.cells) != rows or any(len(row) != columns for row in self.cells):
            raise ValueError(f"cells must be {rows} rows of {columns}")
        if len(self.learned_at) != columns or not all(0 <= row < rows for row in self.learned_at):
            raise ValueError(f"learned_at must name one of the {rows} rows for each of the {columns} tasks")
        for name in ("base", "joint", "plain"):
            if getattr(self, name) and len(getattr(self, name)) != columns:
                raise ValueError(f"{name} must hold {columns} scores")
        older = (all(0 <= parent < row for parent in found) for row, found in enumerate(self.parents))
        if self.parents and (len(self.parents) != rows or not all(older)):
            raise ValueError(f"parents must name older rows for each of the {rows} rows")
        return self

    @property
    def last(self) -> int:
        """The row of the newest version."""
        return len(self.versions) - 1

    @property
    def old_tasks(self) -> list[int]:
        """Columns of the tasks that were learned before the newest version."""
        return [task for task, row in enumerate(self.learned_at) if row < self.last]

    def parents_of(self, row: int) -> tuple[int, ...]:
        """The rows that a row was made from; none for one made from the base model."""
        return self.parents[row] if self.parents else tuple(range(row)[-1:])

    def since(self, task: int) -> list[int]:
        """The rows that know a task: the one that learned it, and all that come from that one."""
        known = {self.learned_at[task]}
        for row in range(self.learned_at[task] + 1, len(self.versions)):
            if known.intersection(self.parents_of(row)):
                known.add(row)
        return sorted(known)

    def state(self, row: int, task: int) -> State:
        """What the version of this row knew of this task."""
        if row == self.learned_at[task]:
            return "learned"
        return "known" if row in self.since(task) else "before"


def average_accuracy(matrix: Matrix) -> Figure:
    """AA: how good the newest version is at everything it was taught."""
    cells = [(matrix.last, task) for task in range(len(matrix.tasks))]
    return _mean(matrix, "average accuracy", cells, lambda: [_at(matrix, cell) for cell in cells])


def bwt(matrix: Matrix) -> Figure:
    """Backward transfer: what later training did to earlier tasks; negative is forgetting."""
    return _backward(matrix, "BWT", matrix.old_tasks)


def bwt_of_all(matrix: Matrix) -> Figure:
    """Backward transfer as TRACE writes it: nearer to nought, by (T - 1) / T where each version learned one task."""
    return _backward(matrix, "BWT (TRACE)", range(len(matrix.tasks)) if matrix.old_tasks else ())


def _backward(matrix: Matrix, name: str, tasks: Sequence[int]) -> Figure:
    pairs = [((matrix.last, task), (matrix.learned_at[task], task)) for task in tasks]
    cells = [cell for pair in pairs for cell in pair]
    return _mean(matrix, name, cells, lambda: [_at(matrix, after) - _at(matrix, before) for after, before in pairs])


def forgetting(matrix: Matrix) -> Figure:
    """FM: the drop from the best score a task had since it was learned; negative when it is now better than ever."""
    spans = [[(row, task) for row in matrix.since(task)] for task in matrix.old_tasks]
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
    before = [(matrix.parents_of(row)[:1], task) for task, row in enumerate(matrix.learned_at)]
    cells = [(rows[0], task) for rows, task in before if rows]
    known = {task: score for task, score in enumerate(matrix.base) if score is not None}
    missing = [f"base model on {matrix.tasks[task]}" for _, task in cells if task not in known]
    missing = missing if known else ["base model"]
    return _mean(matrix, "FWT", cells, lambda: [_at(matrix, cell) - known[cell[1]] for cell in cells], missing)


def general_delta(matrix: Matrix) -> Figure:
    """What became of abilities that no increment teaches; negative is a loss."""
    pairs, lacking = _general(matrix, "score")
    return _figure("general delta", [after - before for before, after in pairs], lacking)


def general_perplexity(matrix: Matrix) -> Figure:
    """How much worse general text is predicted than by the base model: 1 is as well, 2 twice the perplexity."""
    pairs, lacking = _general(matrix, "perplexity")
    logs = [math.log(after / before) for before, after in pairs]
    return _figure("general perplexity ratio", [math.exp(sum(logs) / len(logs))] if logs else [], lacking)


def gap_to_joint(matrix: Matrix) -> Figure:
    """What learning in turn costs against learning everything at once."""
    joint, lacking = _bracket(matrix, matrix.joint, "joint")
    accuracy = average_accuracy(matrix)
    if accuracy.value is None or lacking:
        return _figure("gap to joint", [], lacking or accuracy.reason)
    return _figure("gap to joint", [joint - accuracy.value])


def gap_closed(matrix: Matrix) -> Figure:
    """The share of the way from plain fine-tuning to joint training: 0 is as plain, 1 as joint."""
    joint, no_joint = _bracket(matrix, matrix.joint, "joint")
    plain, no_plain = _bracket(matrix, matrix.plain, "plain")
    accuracy = average_accuracy(matrix)
    lacking = "; ".join(filter(None, [no_joint, no_plain])) or accuracy.reason
    if accuracy.value is None or lacking:
        return _figure("gap closed", [], lacking)
    if joint <= plain:
        return _figure("gap closed", [], f"joint {joint:.3f} is no better than plain {plain:.3f}")
    return _figure("gap closed", [(accuracy.value - plain) / (joint - plain)])


_READ = (
    average_accuracy,
    bwt,
    forgetting,
    learning_accuracy,
    fwt,
    bwt_of_all,
    general_delta,
    general_perplexity,
    gap_to_joint,
    gap_closed,
)


def figures(matrix: Matrix) -> tuple[Figure, ...]:
    """Every figure, in the order in which they are read."""
    return tuple(read(matrix) for read in _READ)


def asked_figures(matrix: Matrix) -> tuple[Figure, ...]:
    """The usual ones, and of those that need more than the tasks the ones that something was measured for."""
    found = (each for each in figures(matrix) if each.name != "BWT (TRACE)")
    return tuple(each for each in found if each.value is not None or each.name not in _BESIDE)


def _general(matrix: Matrix, measure: str) -> tuple[list[tuple[float, float]], str]:
    """(base, version) of everything general with this measure, and what is lacking, in words."""
    rows = [row for row in matrix.general if row.measure == measure]
    if not rows:
        what = "tasks" if measure == "score" else "texts"
        return [], f"evaluate.general names no general {what}"
    label = matrix.versions[matrix.last]
    unscored = [
        f"{who} on {row.name}"
        for row in rows
        for who, score in ((label, row.version), ("base model", row.base))
        if score is None
    ]
    if unscored:
        return [], f"not scored: {', '.join(unscored)}"
    return [(row.base, row.version) for row in rows if row.base is not None and row.version is not None], ""


def _bracket(matrix: Matrix, scores: Sequence[float | None], name: str) -> tuple[float, str]:
    """The mean over all tasks of a version beside the line, or why it is not known."""
    known = [score for score in scores if score is not None]
    if not scores:
        return 0.0, f"no {name} version is known"
    if len(known) < len(scores):
        lacking = [task for task, score in zip(matrix.tasks, scores, strict=True) if score is None]
        return 0.0, f"not scored: the {name} version on {', '.join(lacking)}"
    return sum(known) / len(known), ""


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
    if not cells:
        return _figure(name, [], "it needs one task learned before another")
    return _figure(name, [], f"not scored: {', '.join(unscored)}") if unscored else _figure(name, terms())


def _figure(name: str, terms: Sequence[float], reason: str = "") -> Figure:
    """The mean of the terms under this name; without any, `reason` says why."""
    definition, source = _DEFINITIONS[name]
    value = sum(terms) / len(terms) if terms else None
    return Figure(name=name, value=value, reason=reason, definition=definition, source=source)


def _at(matrix: Matrix, cell: Cell) -> float:
    score = matrix.cells[cell[0]][cell[1]]
    assert score is not None, "_mean has checked it"
    return score

"""The margin: the largest drop of a task's score that the user can bear."""

from collections.abc import Iterable
from dataclasses import dataclass

from nacre.records import Keep
from nacre.records.gating import Gate
from nacre.stats.paired import Paired
from nacre.stats.planning import POWER, rows_to_show, smallest_drop
from nacre.stats.sequential_planning import rows_to_show_sequential, smallest_drop_sequential

WISHED = 0.02
LARGEST = 0.10
ASSUMED_PSI = 0.1  # share of answers that a training changes, where nothing was measured yet
SET_BY_DEFAULT, SET_SOMEWHERE = "set by keep.max_drop", "set in keep"


@dataclass(frozen=True)
class Margin:
    """The margin of one task and where the number comes from, in plain words."""

    value: float
    why: str


@dataclass(frozen=True)
class Ability:
    """What a number of dev rows can show with the gate's test: what an unchanged model passes four times in five.

    Where several tasks are judged together it has to pass them all, so each gets a margin that it passes more often.

    Args:
        rows: dev rows of the task.
        psi: mean squared difference of the scores, see `Paired.psi`.
        binary: whether scores are right/wrong.
        gate: the test, and how sure a pass must be.
        tasks: how many are judged together.
    """

    rows: int
    psi: float
    binary: bool
    gate: Gate
    tasks: int = 1

    @property
    def power(self) -> float:
        """How often an unchanged model has to pass one task, to pass them all four times in five."""
        return float(POWER ** (1 / max(self.tasks, 1)))

    @property
    def smallest(self) -> float:
        """The smallest margin that these rows can show."""
        if self.gate.test == "sequential":
            return smallest_drop_sequential(self.rows, self.psi, accept=accept(self.gate), power=self.power)
        return smallest_drop(self.rows, self.psi, level=self.gate.power, binary=self.binary, power=self.power)

    def rows_for(self, margin: float) -> int:
        """About how many rows a margin would take."""
        if self.gate.test == "sequential":
            return rows_to_show_sequential(
                margin, self.psi, accept=accept(self.gate), more_than=self.rows, power=self.power
            )
        return rows_to_show(
            margin, self.psi, level=self.gate.power, binary=self.binary, more_than=self.rows, power=self.power
        )


def accept(gate: Gate) -> float:
    """What the capital against a drop of the margin must reach for a pass."""
    return 1 / (1 - gate.power)


def limits(tasks: Iterable[str], keep: Keep) -> dict[str, float]:
    """What each task may lose, where the user says so; `auto` is decided by the gate, when the scores are there."""
    chosen = {task: keep.tasks.get(task, keep.max_drop) for task in tasks}
    return {task: limit for task, limit in chosen.items() if limit != "auto"}


def margin_for(task: str, scores: Paired, keep: Keep, gate: Gate, *, rows: int | None = None, tasks: int = 1) -> Margin:
    """The margin of `task`: `keep.tasks`, else `keep.max_drop`, else what the rows can show.

    `auto` is 0.02 where the dev rows can show that much, otherwise the smallest drop they can show, at
    most 0.10. They can show a drop when an unchanged model would pass, all tasks together, four times in five. The
    choice reads how much changed and never in which direction.

    Args:
        task: its name.
        scores: of the rows that were scored so far.
        keep: what the user can bear to lose.
        gate: the test.
        rows: dev rows the task has, where not all of them were scored.
        tasks: how many are judged together.
    """
    able = Ability(rows or scores.rows, scores.psi, scores.binary, gate, tasks)
    shown = able.smallest
    chosen = keep.tasks.get(task, keep.max_drop)
    if chosen != "auto":
        source = f"set by keep.tasks.{task}" if task in keep.tasks else SET_BY_DEFAULT
        return Margin(chosen, f"{source}; {_told(able, shown, chosen)}")
    margin = min(max(shown, WISHED), LARGEST)
    reason = _told(able, shown, WISHED)
    if margin == WISHED:
        return Margin(WISHED, f"auto: {WISHED:.2f}; {reason}")
    if shown > LARGEST:
        needed = able.rows_for(LARGEST)
        return Margin(
            LARGEST, f"auto: {LARGEST:.2f}, the most that auto allows; {reason}, and {LARGEST:.2f} about {needed}"
        )
    return Margin(margin, f"auto: {margin:.3f}, the smallest drop these rows can show; {reason}")


def _told(able: Ability, shown: float, margin: float) -> str:
    """What the rows can show, against what is asked of them."""
    have = f"{able.rows} dev rows, {able.psi:.1%} of which changed,"
    if not able.binary:
        have = f"{able.rows} dev rows with a mean squared difference of {able.psi:.4f}"
    if margin <= 0:
        return f"{have} can show a drop of {shown:.3f}; no number of rows shows a drop of at most {margin:.2f}"
    if shown <= margin:
        return f"{have} can show that"
    return f"{have} can show a drop of {shown:.3f}; {margin:.2f} would take about {able.rows_for(margin)} rows"

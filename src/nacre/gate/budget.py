"""The margin: the largest drop of a task's score that the user can bear."""

from collections.abc import Iterable
from dataclasses import dataclass

from nacre.records import Keep
from nacre.stats.paired import Paired
from nacre.stats.planning import rows_to_show, smallest_drop

WISHED = 0.02
LARGEST = 0.10


@dataclass(frozen=True)
class Margin:
    """The margin of one task and where the number comes from, in plain words."""

    value: float
    why: str


def limits(tasks: Iterable[str], keep: Keep) -> dict[str, float]:
    """What each task may lose, where the user says so; `auto` is decided by the gate, when the scores are there."""
    chosen = {task: keep.tasks.get(task, keep.max_drop) for task in tasks}
    return {task: limit for task, limit in chosen.items() if limit != "auto"}


def margin_for(task: str, scores: Paired, keep: Keep) -> Margin:
    """The margin of `task`: `keep.tasks`, else `keep.max_drop`, else what the rows can show.

    `auto` is 0.02 where the dev rows can show that much, otherwise the smallest drop they can show, at
    most 0.10. They can show a drop when an unchanged model would pass four times in five. The choice
    reads how much changed and never in which direction.
    """
    level = keep.confidence
    shown = smallest_drop(scores.rows, scores.psi, level=level, binary=scores.binary)
    chosen = keep.tasks.get(task, keep.max_drop)
    if chosen != "auto":
        source = f"keep.tasks.{task}" if task in keep.tasks else "keep.max_drop"
        return Margin(chosen, f"set by {source}; {_ability(scores, shown, chosen, level)}")
    margin = min(max(shown, WISHED), LARGEST)
    if margin == WISHED:
        return Margin(WISHED, f"auto: {WISHED:.2f}; {_ability(scores, shown, WISHED, level)}")
    reason = _ability(scores, shown, WISHED, level)
    if shown > LARGEST:
        needed = rows_to_show(LARGEST, scores.psi, level=level, binary=scores.binary, more_than=scores.rows)
        return Margin(
            LARGEST, f"auto: {LARGEST:.2f}, the most that auto allows; {reason}, and {LARGEST:.2f} about {needed}"
        )
    return Margin(margin, f"auto: {margin:.3f}, the smallest drop these rows can show; {reason}")


def _ability(scores: Paired, shown: float, margin: float, level: float) -> str:
    """What the rows can show, against what is asked of them."""
    have = f"{scores.rows} dev rows, {scores.psi:.1%} of which changed,"
    if not scores.binary:
        have = f"{scores.rows} dev rows with a mean squared difference of {scores.psi:.4f}"
    if margin <= 0:
        return f"{have} can show a drop of {shown:.3f}; no number of rows shows a drop of at most {margin:.2f}"
    if shown <= margin:
        return f"{have} can show that"
    needed = rows_to_show(margin, scores.psi, level=level, binary=scores.binary, more_than=scores.rows)
    return f"{have} can show a drop of {shown:.3f}; {margin:.2f} would take about {needed} rows"

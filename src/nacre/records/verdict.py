"""What the gate found."""

from typing import Literal

from nacre.records.base import Record

Outcome = Literal["pass", "fail", "undecided"]


class TaskVerdict(Record):
    """One kept task: the drop from the champion to the candidate, and what can be said of it.

    Attributes:
        drop: before - after; positive is a loss.
        interval: two-sided interval of the drop at the stated confidence.
        margin: the largest drop the user can bear; `margin_why` says where the number comes from.
        outcome: pass (shown to be below the margin), fail (a drop is shown, and not to be below the
            margin), undecided (neither).
        more_rows: for undecided, about how many more dev rows would decide it; 0 otherwise.
    """

    task: str
    metric: str
    rows: int
    before: float
    after: float
    drop: float
    interval: tuple[float, float]
    margin: float
    margin_why: str
    test: str
    outcome: Outcome
    more_rows: int = 0


class Verdict(Record):
    """The gate's decision: fail if any task fails, else undecided if any is, else pass."""

    outcome: Outcome
    confidence: float
    tasks: tuple[TaskVerdict, ...]
    notes: tuple[str, ...] = ()

"""What the gate found."""

from typing import Literal

from nacre.records.base import Record

Outcome = Literal["pass", "fail", "undecided"]


class Flip(Record):
    """One row whose answer went from right to wrong, or from wrong to right.

    Attributes:
        row: place among the task's dev rows, from 0.
        identity: the row's own id, where the scores came with one.
        prompt: beginning of the question, where it is known.
        before, after: scores; `answer_before` and `answer_after` what was said, where it is known.
    """

    row: int
    identity: str = ""
    prompt: str = ""
    before: float
    after: float
    answer_before: str = ""
    answer_after: str = ""

    @property
    def lost(self) -> bool:
        """Right before and wrong after."""
        return self.after < self.before


class TaskVerdict(Record):
    """One kept task: the drop from the champion to the candidate, and what can be said of it.

    Attributes:
        rows: rows that were scored; `rows_used` those the decision rests on (None: all), `rows_of` those the task has.
        drop: before - after; positive is a loss.
        interval: two-sided interval of the drop at the stated confidence.
        margin: the largest drop the user can bear; `margin_why` says where the number comes from.
        outcome: pass (shown to be below the margin), fail (a drop is shown, and not to be below the
            margin), undecided (neither).
        more_rows: for undecided, about how many more dev rows would decide it; 0 otherwise.
        e_value: evidence for a drop of the sequential test: against "nothing was lost".
        e_margin: its evidence against "the margin or more was lost".
        p_value: of "nothing was lost"; for the sequential test 1 / `e_value`.
        lost, gained: rows that went from right to wrong, and from wrong to right; `flips` lists the first of them.
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
    rows_used: int | None = None
    rows_of: int | None = None
    e_value: float | None = None
    e_margin: float | None = None
    p_value: float | None = None
    lost: int | None = None
    gained: int | None = None
    flips: tuple[Flip, ...] = ()


class RuleVerdict(Record):
    """What one further rule says.

    Attributes:
        task: the task it looked at; empty for all together.
        value: what was measured, with `interval` one-sided bounds at the gate's confidence; None: nothing could be.
        limit: what is allowed.
        why: in a sentence.
        rows: pairs it rests on.
    """

    rule: str
    task: str = ""
    outcome: Outcome
    value: float | None = None
    interval: tuple[float, float] | None = None
    limit: float
    why: str
    rows: int = 0


class Verdict(Record):
    """The gate's decision: fail if any task or rule fails, else undecided if any is, else pass."""

    outcome: Outcome
    confidence: float
    tasks: tuple[TaskVerdict, ...]
    notes: tuple[str, ...] = ()
    power: float | None = None
    rules: tuple[RuleVerdict, ...] = ()

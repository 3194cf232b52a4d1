"""What each of the gate's tests finds of one task: is the drop shown to be below the margin, and how likely is none?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nacre.gate.budget import accept
from nacre.records.gating import Gate
from nacre.stats.fixed import Bootstrap, mcnemar_p
from nacre.stats.paired import Paired
from nacre.stats.planning import rows_to_decide
from nacre.stats.sequential import Sequential, lower_bound, upper_bound
from nacre.stats.sequential_planning import rows_to_stop

SEQUENTIAL_TEST = "sequential: betting (Waudby-Smith and Ramdas 2024)"


@dataclass(frozen=True)
class Asked:
    """What one task is asked.

    Attributes:
        scores: of its rows.
        differences: before - after, in the order of reading.
        margin: the largest drop that can be borne.
        confidence: 1 - the chance of refusing a task that lost nothing.
        tasks: judged together, between which that chance is shared out.
        planned: rows there would have been to read.
    """

    scores: Paired
    differences: Sequence[float]
    margin: float
    confidence: float
    tasks: int
    planned: int


@dataclass(frozen=True)
class Finding:
    """What a test says of one task.

    Attributes:
        below: the drop is shown to be below the margin.
        p_value: of a drop of nought or less, from all scored rows.
        interval: two-sided interval of the drop.
        rows_used: rows that were read until it was decided.
        more_rows: about how many more would decide; None: no number of them.
        e_value, e_margin: highest capitals of the sequential test over all scored rows.
        shown_later: the latter has reached its limit, if only in rows behind the decision.
        note: a sentence where another method had to stand in.
    """

    below: bool
    p_value: float
    interval: tuple[float, float]
    rows_used: int
    more_rows: int | None
    test: str
    e_value: float | None = None
    e_margin: float | None = None
    shown_later: bool = False
    note: str = ""


def find(asked: Asked, gate: Gate) -> Finding:
    """Ask the test that the settings name."""
    return _sequential(asked, gate) if gate.test == "sequential" else _fixed(asked, gate)


def stopping_test(margin: float, gate: Gate, *, confidence: float, tasks: int) -> Sequential:
    """The test of one task, to be fed with differences as they come."""
    return Sequential(margin, alarm=alarm(gate, confidence=confidence, tasks=tasks), accept=accept(gate))


def alarm(gate: Gate, *, confidence: float, tasks: int) -> float:
    """What the capital of one of so many tasks against "no drop" must reach alone."""
    return (1 if gate.correction == "none" else max(tasks, 1)) / (1 - confidence)


def _sequential(asked: Asked, gate: Gate) -> Finding:
    test = stopping_test(asked.margin, gate, confidence=asked.confidence, tasks=asked.tasks)
    test.feed(asked.differences)
    two_sided = (1 + asked.confidence) / 2
    whole = Sequential(asked.margin, alarm=math.inf, accept=math.inf)  # never stops
    whole.feed(asked.differences)
    limit = alarm(gate, confidence=asked.confidence, tasks=asked.tasks)
    more = rows_to_stop(whole, asked.scores.drop, asked.scores.psi, alarm=limit, accept=accept(gate))
    return Finding(
        below=test.stopped == "pass",
        p_value=1 / whole.e_value,
        interval=(
            lower_bound(asked.differences, two_sided, planned=asked.planned),
            upper_bound(asked.differences, two_sided, planned=asked.planned),
        ),
        rows_used=test.rows_used,
        more_rows=more,
        test=SEQUENTIAL_TEST,
        e_value=whole.e_value,
        e_margin=whole.e_margin,
        shown_later=whole.e_margin >= accept(gate),
    )


def _fixed(asked: Asked, gate: Gate) -> Finding:
    scores, note = asked.scores, ""
    two_sided = (1 + asked.confidence) / 2
    bounds: Paired | Bootstrap = scores
    test = scores.test
    if gate.test == "bootstrap":
        bounds = Bootstrap(asked.differences)
        p_value, test = bounds.p_value, "paired bootstrap"
    elif gate.test == "mcnemar" and scores.binary:
        p_value, test = (
            mcnemar_p(scores.lost, scores.gained),
            f"McNemar's mid-p for a drop; {scores.test} for the margin",
        )
    else:
        p_value = scores.p_value
        note = "McNemar's test is for right and wrong: the paired t test stood in" if gate.test == "mcnemar" else ""
    share = asked.tasks if gate.correction != "none" else 1
    fail_level = 1 - (1 - asked.confidence) / share
    needed = rows_to_decide(scores.drop, scores.variance, asked.margin, level=gate.power, fail_level=fail_level)
    return Finding(
        below=bounds.upper(gate.power) <= asked.margin,
        p_value=min(1.0, p_value),
        interval=(bounds.lower(two_sided), bounds.upper(two_sided)),
        rows_used=scores.rows,
        more_rows=None if needed is None else max(needed - scores.rows, 1),
        test=test,
        note=note,
    )

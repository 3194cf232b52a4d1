"""A paired test that may be looked at after every row: two bets, each on one side of the question.

The differences X = before - after of the rows, in a random order, lie in [-1, 1]; their mean is the drop. Two
capitals start at 1 and are staked on every row, by Waudby-Smith and Ramdas (2024), "Estimating means of bounded
random variables by betting", JRSS B 86, 1-27:

- against "there is no drop": prod (1 + bet * X). It hardly ever grows if the drop is nought or less.
- against "the drop is the margin or more": prod (1 + bet * (margin - X)). It hardly ever grows if that is so.

Each is a test supermartingale under its hypothesis whatever the bets, as long as a row's bet is fixed before
the row is seen. By Ville's inequality it then ever reaches c with a probability of at most 1/c, so the test holds
at every look, and stopping early costs nothing.

The bets are predictable plug-ins: close to Kelly's, effect / psi with psi the mean squared difference so far. In the
first capital one half is staked on a drop of the size of the margin, the other half on the mean drop so far, so that
large losses are found fast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Stop = Literal["pass", "fail"]

NO_MARGIN = 0.02  # the effect that bets are made for where the margin is nought
PRIOR_SQUARES, PRIOR_ROWS = 1.0, 15.0  # before any row, psi is taken to be 1/15, with the weight of fifteen rows
CAP = 0.75  # share of the capital at stake on a row, at most, for intervals
FIRST_LOOK = 250  # rows to have scored at the first look, where rows are scored only as they are needed
LOOK_FACTOR, LOOK_ROWS = 1.05, 50  # the next look comes after a twentieth more, and at least so many


@dataclass(frozen=True)
class Capitals:
    """Logarithms of both capitals after each row, and the mean difference so far; arrays over the rows, last axis."""

    drop: Floats
    margin: Floats
    mean: Floats


@dataclass
class _State:
    """What the rows before say. Arrays with a last axis of one, or plain numbers."""

    rows: int = 0
    total: Floats | float = 0.0
    squares: Floats | float = 0.0
    log_margin: Floats | float = 0.0
    log_steady: Floats | float = 0.0
    log_learned: Floats | float = 0.0


def kelly(effect: Floats | float, psi: Floats) -> Floats:
    """The stake that grows fastest on differences -1, 0 and 1 of mean square `psi`: b with psi b = effect (1 - b^2)."""
    bet: Floats = 2 * effect / (psi + np.sqrt(psi**2 + 4 * np.square(effect)))
    return bet


def _play(differences: Floats, margin: float, state: _State) -> tuple[Capitals, _State]:
    """Stake both capitals on more rows (last axis)."""
    rows = state.rows + np.arange(1, differences.shape[-1] + 1)
    totals = state.total + np.cumsum(differences, -1)
    squares = state.squares + np.cumsum(differences**2, -1)
    # what was known before each row, never the row itself: that makes the bets predictable
    seen = PRIOR_ROWS + rows - 1
    psi = (PRIOR_SQUARES + squares - differences**2) / seen
    effect = margin or NO_MARGIN
    steady = kelly(effect, psi)
    learned = kelly(np.maximum((totals - differences) / seen, effect), psi)
    log_margin = state.log_margin + np.cumsum(np.log1p(steady * (margin - differences)), -1)
    log_steady = state.log_steady + np.cumsum(np.log1p(steady * differences), -1)
    log_learned = state.log_learned + np.cumsum(np.log1p(learned * differences), -1)
    found = Capitals(np.logaddexp(log_steady, log_learned) - math.log(2), log_margin, totals / rows)
    last = (array[..., -1:] for array in (totals, squares, log_margin, log_steady, log_learned))
    return found, _State(int(rows[-1]), *last)


class Sequential:
    """The test of one task, fed with differences in chunks of any size until it stops.

    It stops with `pass` at the first row where the capital against "the drop is the margin or more" reaches
    `accept`; and with `fail` once the capital against "there is no drop" has reached `alarm` and the mean drop so far
    is not below the margin. Between an alarm and that, rows go on being read: a drop that is there may still be shown
    to be one that can be borne.

    Args:
        margin: the largest drop that can be borne, from 0 to 1.
        alarm: a model that lost nothing alarms with probability at most 1 / alarm.
        accept: a model that lost the margin or more passes with probability at most 1 / accept.
    """

    def __init__(self, margin: float, *, alarm: float, accept: float) -> None:
        self.margin = margin
        self._alarm, self._accept = math.log(alarm), math.log(accept)
        self._state = _State()
        self.stopped: Stop | None = None
        self.rows_used = 0
        self._drop = self._margin = self._highest_drop = self._highest_margin = 0.0

    def feed(self, differences: Sequence[float] | Floats) -> Stop | None:
        """Read more rows, as many as it takes; returns the decision, or None while there is none.

        Rows after the decision are not read.

        Raises:
            ValueError: a difference outside [-1, 1], or one that is no number.
        """
        given = np.asarray(differences, dtype=float)
        if given.size and not (np.abs(given) <= 1).all():
            raise ValueError("differences lie between -1 and 1")
        if self.stopped or not given.size:
            return self.stopped
        found, self._state = _play(given, self.margin, self._state)
        raised = np.maximum.accumulate(np.maximum(found.drop, self._highest_drop)) >= self._alarm
        # no drop is larger than one: a margin of one can be borne whatever the rows say
        passed = (found.margin >= self._accept) | (self.margin >= 1)
        failed = raised & (found.mean >= self.margin)
        over = passed | failed
        read = int(over.argmax()) + 1 if over.any() else given.size
        if over.any():
            self.stopped = "pass" if passed[read - 1] else "fail"
        self.rows_used += read
        self._drop, self._margin = float(found.drop[read - 1]), float(found.margin[read - 1])
        self._highest_drop = max(self._highest_drop, float(found.drop[:read].max()))
        self._highest_margin = max(self._highest_margin, float(found.margin[:read].max()))
        return self.stopped

    @property
    def e_value(self) -> float:
        """The highest capital against "there is no drop" so far; 1 / it is a p-value that holds at every look."""
        return math.exp(min(self._highest_drop, 700.0))

    @property
    def e_margin(self) -> float:
        """The highest capital against "the drop is the margin or more" so far."""
        return math.exp(min(self._highest_margin, 700.0))

    @property
    def logs(self) -> tuple[float, float]:
        """Logarithms of both capitals now: against no drop, and against a drop of the margin."""
        return self._drop, self._margin


def simulate(differences: Floats, margin: float, *, alarm: float, accept: float) -> tuple[NDArray[np.str_], Floats]:
    """What `Sequential` makes of many experiments at once.

    Args:
        differences: one experiment a row of the array.
        margin, alarm, accept: see `Sequential`.

    Returns:
        ``pass``, ``fail`` or ``undecided`` for each, where a raised alarm that no pass followed is a fail; and the
        rows that each took.
    """
    found, _ = _play(differences, margin, _State())
    raised = np.maximum.accumulate(found.drop, -1) >= math.log(alarm)
    passed, failed = found.margin >= math.log(accept), raised & (found.mean >= margin)
    over = passed | failed
    count = differences.shape[-1]
    last = np.where(over.any(-1), over.argmax(-1), count - 1)
    at_last = np.take_along_axis(passed, last[:, None], -1)[:, 0]
    outcome = np.where(at_last, "pass", np.where(raised[np.arange(len(last)), last], "fail", "undecided"))
    return outcome, last + 1.0


def passing(differences: Floats, margin: float, *, accept: float) -> float:
    """Share of experiments (one a row of the array) that ever pass: `simulate` without its alarms, and faster."""
    squares = differences**2
    psi = (PRIOR_SQUARES + np.cumsum(squares, -1) - squares) / (PRIOR_ROWS + np.arange(differences.shape[-1]))
    capital = np.cumsum(np.log1p(kelly(margin, psi) * (margin - differences)), -1)
    return float((capital.max(-1) >= math.log(accept)).mean())


def next_look(scored: int, rows: int) -> int:
    """How many of `rows` to have scored at the next look, where `scored` did not decide."""
    return min(rows, max(scored + LOOK_ROWS, math.ceil(scored * LOOK_FACTOR)))


def lower_bound(differences: Sequence[float] | Floats, level: float, *, planned: int | None = None) -> float:
    """Lower end of a confidence sequence for the mean difference, one-sided at `level`, valid at every look.

    It is the smallest mean m that the capital prod (1 + bet_i(m) (X_i - m)) does not refuse, with the predictable
    bets of Waudby-Smith and Ramdas (2024, section 4.2), which make it narrowest at `planned` rows, at most `CAP` of
    what is at stake. The capital falls with m, so the end is found by bisection.

    Args:
        differences: X, in [-1, 1], in the order they were read.
        level: one-sided.
        planned: rows that were to be read at most, known before the first; default: those given, which is right
            where nobody looked before.
    """
    given = np.asarray(differences, dtype=float)
    if given.size == 0:
        return -1.0
    wanted = -math.log1p(-level)
    seen = PRIOR_ROWS + np.arange(given.size)
    deviations = (given - np.cumsum(given) / (seen + 1)) ** 2
    variance = (PRIOR_SQUARES + np.cumsum(deviations) - deviations) / seen  # before each row, as bets must be
    bets = np.sqrt(2 * wanted / (variance * max(planned or given.size, given.size)))
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        capped = np.minimum(bets, CAP / (1 + middle))
        if float(np.log1p(capped * (given - middle)).sum()) >= wanted:
            low = middle
        else:
            high = middle
    return low


def upper_bound(differences: Sequence[float] | Floats, level: float, *, planned: int | None = None) -> float:
    """Upper end of the confidence sequence, see `lower_bound`."""
    return -lower_bound(-np.asarray(differences, dtype=float), level, planned=planned)

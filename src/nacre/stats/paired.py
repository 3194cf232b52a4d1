"""How much a score dropped between two versions that answered the same rows, with bounds that hold for few rows.

A *level* is always one-sided: with ``level=0.95`` the true drop lies above the upper bound in at most
about 5 % of experiments. A two-sided interval at 95 % takes both bounds at ``level=0.975``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from scipy.special import stdtrit

SCORE_TEST = "paired score interval for proportions (Tango 1998)"
STUDENT_TEST = "paired t interval with Johnson's (1978) skewness term, widened for changes too rare to be seen"


@dataclass(frozen=True)
class Paired:
    """What the bounds need to know of two score sequences; scores lie in [0, 1], higher is better.

    Attributes:
        rows: number of pairs.
        before, after: mean scores.
        drop: before - after; positive is a loss.
        psi: mean squared difference. For right/wrong scores the share of rows that changed, either way.
            It is blind to the direction of the change.
        variance: sample variance of the differences (0 for one row).
        skew: third central moment of the differences.
        binary: whether every score is 0 or 1.
    """

    rows: int
    before: float
    after: float
    drop: float
    psi: float
    variance: float
    skew: float
    binary: bool

    def upper(self, level: float) -> float:
        """Upper bound of the true drop at a one-sided `level`."""
        if self.rows < 2:
            return 1.0
        if self.binary:
            return tango_upper(self.lost, self.gained, self.rows, level)
        return min(1.0, self.drop + self._reach(level, self.skew))

    def lower(self, level: float) -> float:
        """Lower bound of the true drop at a one-sided `level`."""
        if self.rows < 2:
            return -1.0
        if self.binary:
            return -tango_upper(self.gained, self.lost, self.rows, level)
        return max(-1.0, self.drop - self._reach(level, -self.skew))

    @property
    def p_value(self) -> float:
        """Of a drop of nought or less, one-sided: the bound at the level 1 - p is nought."""
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if self.lower(1 - middle) > 0 else (middle, high)
        return high

    @property
    def test(self) -> str:
        """The name of the method behind the bounds."""
        return SCORE_TEST if self.binary else STUDENT_TEST

    @property
    def lost(self) -> int:
        """Rows right before and wrong after, for right/wrong scores."""
        return round(self.rows * (self.psi + self.drop) / 2)

    @property
    def gained(self) -> int:
        """Rows wrong before and right after, for right/wrong scores."""
        return round(self.rows * (self.psi - self.drop) / 2)

    def _reach(self, level: float, skew: float) -> float:
        """Distance from the observed drop to a bound on the side where `skew` is positive.

        The t interval with the skewness term of Johnson (1978), JASA 73, 536-544, used only where it
        widens; and, added in quadrature, the bound for changes so rare that no row showed one, so
        that equal scores never give a bound of zero width.
        """
        quantile = float(stdtrit(self.rows - 1, level))
        shift = max(0.0, skew) / (6 * self.variance * self.rows) * (1 + 2 * quantile**2) if self.variance else 0.0
        return shift + math.sqrt(quantile**2 * self.variance / self.rows + unseen_bound(self.rows, level) ** 2)


def paired(before: Sequence[float], after: Sequence[float]) -> Paired:
    """Summarise two score sequences of the same rows in the same order.

    Raises:
        ValueError: the lengths differ, there is no row, or a score lies outside [0, 1] (or is not a number).
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} scores before and {len(after)} after: pairs need the same rows")
    if not before:
        raise ValueError("no scores")
    wrong = next((score for score in (*before, *after) if not 0 <= score <= 1), None)
    if wrong is not None:
        raise ValueError(f"a score of {wrong} lies outside 0 to 1")
    rows = len(before)
    changes = [old - new for old, new in zip(before, after, strict=True)]
    drop = math.fsum(changes) / rows
    central = [change - drop for change in changes]
    return Paired(
        rows=rows,
        before=math.fsum(before) / rows,
        after=math.fsum(after) / rows,
        drop=drop,
        psi=math.fsum(change**2 for change in changes) / rows,
        variance=math.fsum(value**2 for value in central) / max(rows - 1, 1),
        skew=math.fsum(value**3 for value in central) / rows,
        binary=all(score in (0, 1) for score in (*before, *after)),
    )


def unseen_bound(rows: int, level: float) -> float:
    """Largest share of rows that may change although none of `rows` did: (1 - share)^rows = 1 - level."""
    return float(-math.expm1(math.log1p(-level) / rows))


def tango_upper(lost: float, gained: float, rows: int, level: float) -> float:
    """Upper bound of p(lost) - p(gained) from paired right/wrong answers.

    The score interval of Tango (1998), Statistics in Medicine 17, 891-908: the largest drop that the
    score test does not reject, with the nuisance probability at its restricted maximum-likelihood
    estimate. Where no row changed the exact binomial bound takes over: it is a little wider.
    At a nominal 5 % the truth lies above the bound in at most about 6 % of experiments.

    Args:
        lost: rows right before and wrong after; need not be whole, for planning.
        gained: rows wrong before and right after.
        rows: all rows.
        level: one-sided.
    """
    if lost + gained <= 1e-9:
        return unseen_bound(rows, level)
    quantile = NormalDist().inv_cdf(level)
    low, high = (lost - gained) / rows, 1.0
    for _ in range(45):
        middle = (low + high) / 2
        if _score(lost, gained, rows, middle) > -quantile:
            low = middle
        else:
            high = middle
    return high


def _score(lost: float, gained: float, rows: int, drop: float) -> float:
    """Tango's statistic for the hypothesis that the true drop is `drop` (his equation for T, with q21 estimated)."""
    a = 2 * rows
    b = -lost - gained + (2 * rows - lost + gained) * drop
    c = -gained * drop * (1 - drop)
    gain = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = rows * (2 * gain + drop * (1 - drop))
    distance = lost - gained - rows * drop
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)

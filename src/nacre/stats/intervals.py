"""Intervals of shares and of quantiles, from counts and values that were looked at once."""

import math
from collections.abc import Sequence

from scipy.stats import binom, binomtest


def share_interval(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where a share is, by Wilson's score interval (Wilson 1927); from 0 to 1 where nothing was tried.

    Raises:
        ValueError: more hits than trials.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    if not trials:
        return 0.0, 1.0
    low, high = binomtest(hits, trials).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def quantile_interval(values: Sequence[float], share: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where a quantile is, by two of the values: order statistics, without an assumption on the distribution.

    The number of values below the quantile is binomial (Conover 1999, Practical Nonparametric Statistics, 3.2). Where
    there are too few values for a bound it is minus or plus infinity.

    Raises:
        ValueError: a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share}")
    ordered, count, tail = sorted(values), len(values), (1 - confidence) / 2
    below = int(binom.ppf(tail, count, share))  # the least number whose chance not to be exceeded is at least `tail`
    if below and binom.cdf(below - 1, count, share) > tail:
        below -= 1
    above = int(binom.ppf(1 - tail, count, share))
    low = ordered[below - 1] if below >= 1 else -math.inf
    high = ordered[above] if above < count else math.inf
    return low, high

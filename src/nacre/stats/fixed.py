"""Tests for a number of rows that was fixed beforehand, and looked at once: McNemar and the paired bootstrap."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtrit

from nacre.stats.paired import unseen_bound

RESAMPLES = 4000
AT_ONCE = 2**24  # numbers drawn at a time


def mcnemar_p(lost: int, gained: int, *, mid: bool = True) -> float:
    """One-sided p-value of McNemar's test: how likely at least so many losses are if losses and gains are even.

    Args:
        lost: rows right before and wrong after.
        gained: rows wrong before and right after.
        mid: count half of the chance of exactly `lost` (mid-p; Fagerland, Lydersen and Laake 2013, BMC Medical
            Research Methodology 13, 91), which is closer to the level; False is the exact test, never above it.
    """
    count = lost + gained
    exactly = float(bdtr(lost, count, 0.5)) - (float(bdtr(lost - 1, count, 0.5)) if lost else 0.0)
    return 1 - float(bdtr(lost, count, 0.5)) + (0.5 if mid else 1.0) * exactly


class Bootstrap:
    """The paired bootstrap (Efron 1979; Koehn 2004 for scores of texts): the rows are drawn again with replacement.

    Args:
        differences: before - after of each row.
        resamples: how often.
        seed: of the draws; equal rows give equal bounds.
    """

    def __init__(self, differences: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        values, counts = np.unique(np.asarray(differences, dtype=float), return_counts=True)
        self._rows = int(counts.sum())
        self._drop = float(values @ counts / self._rows)
        random, chances = np.random.default_rng(seed), counts / self._rows
        part = max(1, AT_ONCE // len(values))
        drawn = [
            random.multinomial(self._rows, chances, size=min(part, resamples - start)) @ values / self._rows
            for start in range(0, resamples, part)
        ]
        self._means = np.sort(np.concatenate(drawn))

    def upper(self, level: float) -> float:
        """Upper bound of the drop, one-sided: the percentile, widened in quadrature for changes too rare to be seen."""
        return min(1.0, self._drop + self._reach(float(np.quantile(self._means, level)) - self._drop, level))

    def lower(self, level: float) -> float:
        """Lower bound of the drop, one-sided."""
        return max(-1.0, self._drop - self._reach(self._drop - float(np.quantile(self._means, 1 - level)), level))

    def _reach(self, distance: float, level: float) -> float:
        return math.hypot(max(distance, 0.0), unseen_bound(self._rows, level))

    @property
    def p_value(self) -> float:
        """How often a resample, moved so that its rows lost nothing, loses as much as was observed."""
        beyond = int((self._means - self._drop >= self._drop - 1e-12).sum())
        return (1 + beyond) / (1 + len(self._means))


def geometric_ratio(before: Sequence[float], after: Sequence[float], level: float) -> tuple[float, float, float]:
    """Geometric mean of after / before over pairs of positive numbers, with one-sided bounds at `level` (paired t).

    Raises:
        ValueError: fewer than two pairs, or a number that is not positive.
    """
    if len(before) != len(after) or len(before) < 2:
        raise ValueError(f"{len(before)} numbers before and {len(after)} after: at least two pairs are needed")
    if min(*before, *after) <= 0:
        raise ValueError("only positive numbers have a ratio")
    logs: NDArray[np.float64] = np.log(np.asarray(after, dtype=float)) - np.log(np.asarray(before, dtype=float))
    mean = float(logs.mean())
    reach = float(stdtrit(len(logs) - 1, level)) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - reach), math.exp(mean + reach)


def holm(p_values: Mapping[str, float], level: float) -> set[str]:
    """Names refused by Holm's procedure (1979): no true hypothesis is, with probability `level`."""
    refused: set[str] = set()
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] > level / (len(p_values) - place) * (1 + 1e-12):
            break
        refused.add(name)
    return refused


def bonferroni(p_values: Mapping[str, float], level: float) -> set[str]:
    """Names whose p-value is at most their even share of `level`."""
    share = level / max(len(p_values), 1) * (1 + 1e-12)
    return {name for name, value in p_values.items() if value <= share}

"""Intervals of shares and quantiles: known values, and how often they hold."""

import math

import numpy as np
import pytest
from scipy.stats import quantile_test

from nacre.stats.intervals import quantile_interval, share_interval


def test_shares() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    low, high = share_interval(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)  # the textbook's 8 of 10
    assert share_interval(0, 20)[0] == 0.0
    with pytest.raises(ValueError, match="3 hits in 2"):
        share_interval(3, 2)


def test_quantiles_are_scipys_and_few_values_bound_nothing() -> None:
    values = np.random.default_rng(0).lognormal(size=200)
    for share in (0.5, 0.9):
        theirs = quantile_test(values, p=share).confidence_interval(0.95)
        assert quantile_interval(values.tolist(), share) == pytest.approx((theirs.low, theirs.high))
    assert quantile_interval([], 0.5) == (-math.inf, math.inf)
    assert quantile_interval([1.0, 2.0], 0.5) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="share"):
        quantile_interval([1.0], 1.0)


def test_a_median_lies_within_as_often_as_said() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        low, high = quantile_interval(random.exponential(size=41).tolist(), 0.5)
        held += low <= math.log(2) <= high
    assert held >= 372  # 95 % of 400 less three standard errors

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from simulation import changes, noise, smooth

from nacre.stats.fixed import Bootstrap, bonferroni, geometric_ratio, holm, mcnemar_p


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 7), (7, 1), (12, 12), (30, 11), (5, 0)])
def test_mcnemar_is_the_binomial_test_and_mid_p_counts_half_of_the_tie(lost: int, gained: int) -> None:
    count = lost + gained
    exact = binomtest(lost, count, 0.5, alternative="greater").pvalue if count else 1.0
    tie = math.comb(count, lost) / 2**count
    assert mcnemar_p(lost, gained, mid=False) == pytest.approx(exact)
    assert mcnemar_p(lost, gained) == pytest.approx(exact - tie / 2)


def test_mid_p_against_the_published_value() -> None:
    """Airway hyper-responsiveness, 1 and 7 of 21: Fagerland, Lydersen and Laake 2013 give a two-sided 0.039."""
    assert 2 * mcnemar_p(7, 1) == pytest.approx(0.039, abs=5e-4)


@pytest.mark.parametrize("draw", [lambda: changes(400, 200, 0.2, 0.05, seed=1), lambda: smooth(400, 200, 0.4, 0.05)])
def test_the_bootstrap_covers(draw) -> None:
    above = below = 0
    for row in draw():
        found = Bootstrap(row.tolist(), resamples=1000)
        above += found.upper(0.95) < 0.05
        below += found.lower(0.95) > 0.05
    assert max(above, below) / 400 <= 0.05 + noise(0.05, 400) + 0.01  # a percentile is a little too narrow


def test_the_bootstrap_says_how_likely_no_drop_is() -> None:
    rows = changes(600, 200, 0.2, 0.0, seed=3)
    refused = np.mean([Bootstrap(row.tolist(), resamples=600).p_value <= 0.05 for row in rows])
    assert refused <= 0.05 + noise(0.05, 600)
    assert Bootstrap([1.0] * 20 + [0.0] * 60).p_value < 0.001
    assert Bootstrap([0.0] * 60).p_value == 1.0
    assert Bootstrap([0.0] * 60).upper(0.95) == pytest.approx(1 - 0.05 ** (1 / 60))
    same = Bootstrap([0.3, -0.2, 0.0, 0.1] * 30)
    assert same.upper(0.9) == Bootstrap([0.1, 0.3, -0.2, 0.0] * 30).upper(0.9)


def test_ratios_are_geometric_means() -> None:
    ratio, low, high = geometric_ratio([1.0, 2.0, 4.0], [2.0, 2.0, 8.0], 0.95)
    assert ratio == pytest.approx(4 ** (1 / 3))
    assert low < ratio < high
    assert geometric_ratio([1.0, 3.0], [2.0, 6.0], 0.95) == pytest.approx((2.0, 2.0, 2.0))
    random = np.random.default_rng(1)
    outside = 0
    for _ in range(600):
        before, factor = np.exp(random.normal(0, 1, 20)), np.exp(random.normal(math.log(1.1), 0.3, 20))
        outside += geometric_ratio(before.tolist(), (before * factor).tolist(), 0.95)[2] < 1.1
    assert outside / 600 <= 0.05 + noise(0.05, 600)
    for wrong in (([1.0], [1.0]), ([1.0, 0.0], [1.0, 1.0]), ([1.0, 1.0], [1.0])):
        with pytest.raises(ValueError, match=r"pairs|positive"):
            geometric_ratio(*wrong, 0.95)


def test_holm_refuses_what_bonferroni_refuses_and_more() -> None:
    values = {"a": 0.01, "b": 0.02, "c": 0.04, "d": 0.5}
    assert bonferroni(values, 0.05) == {"a"}
    assert holm(values, 0.05) == {"a"}
    assert holm({"a": 0.01, "b": 0.015, "c": 0.024, "d": 0.5}, 0.05) == {"a", "b", "c"}
    assert holm({"a": 0.0125, "b": 0.5}, 0.025) == {"a"}
    assert holm({}, 0.05) == bonferroni({}, 0.05) == set()


@pytest.mark.parametrize("correct", [holm, bonferroni])
def test_among_true_hypotheses_hardly_any_is_refused(correct) -> None:
    random = np.random.default_rng(2)
    wrong = [bool(correct({str(i): value for i, value in enumerate(row)}, 0.05)) for row in random.random((2000, 10))]
    assert np.mean(wrong) <= 0.05 + noise(0.05, 2000)

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from nacre.stats.paired import Paired, paired, tango_upper, unseen_bound


def binary(lost: int, gained: int, rows: int) -> Paired:
    before = [1] * lost + [0] * gained + [1] * (rows - lost - gained)
    after = [0] * lost + [1] * gained + [1] * (rows - lost - gained)
    return paired(before, after)


def test_tango_agrees_with_the_published_interval() -> None:
    """Airway hyper-responsiveness: Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33, table 1 and 4."""
    upper = tango_upper(1, 7, 21, 0.975)
    lower = -tango_upper(7, 1, 21, 0.975)
    assert (round(lower, 3), round(upper, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(("lost", "gained", "rows"), [(3, 1, 40), (0, 4, 60), (12, 12, 150), (30, 5, 100), (5, 0, 5)])
def test_the_bound_is_where_the_score_test_turns_with_a_brute_force_likelihood(
    lost: int, gained: int, rows: int
) -> None:
    """The restricted maximum-likelihood estimate is found here by searching, not by Tango's quadratic."""
    upper = tango_upper(lost, gained, rows, 0.95)
    if upper >= 1 - 1e-9:
        assert lost == rows
        return

    def negative(gain: float) -> float:
        probabilities = (gain + upper, gain, 1 - 2 * gain - upper)
        counts = (lost, gained, rows - lost - gained)
        return -sum(n * math.log(max(p, 1e-300)) for n, p in zip(counts, probabilities, strict=True) if n)

    found = minimize_scalar(negative, bounds=(0, (1 - upper) / 2), method="bounded", options={"xatol": 1e-12}).x
    statistic = (lost - gained - rows * upper) / math.sqrt(rows * (2 * found + upper * (1 - upper)))
    assert statistic == pytest.approx(-norm.ppf(0.95), abs=1e-3)


@pytest.mark.parametrize("rows", [60, 150])
@pytest.mark.parametrize("gain", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("drop", [0.0, 0.03, 0.1])
def test_binary_bounds_cover_the_truth_computed_exactly(rows: int, gain: float, drop: float) -> None:
    """Probability over every possible outcome that the truth lies above the upper bound, or below the lower one."""
    loss = gain + drop
    if loss == 0:
        return
    above = below = 0.0
    for lost in range(rows + 1):
        if (chance := binom.pmf(lost, rows, loss)) < 1e-7:
            continue
        for gained in range(rows - lost + 1):
            both = chance * binom.pmf(gained, rows - lost, gain / (1 - loss))
            if both < 1e-6:
                continue
            above += both * (tango_upper(lost, gained, rows, 0.95) < drop)
            below += both * (-tango_upper(gained, lost, rows, 0.95) > drop)
    assert above <= 0.061  # the score interval is exact on average, not at each point
    assert below <= 0.085  # wider off where rows were lost and hardly any gained


@pytest.mark.parametrize("kind", ["small losses both ways", "rare full losses", "skewed losses", "wide"])
@pytest.mark.parametrize("rows", [100, 300])
def test_real_valued_upper_bounds_cover_the_truth(kind: str, rows: int) -> None:
    """The bound that a pass rests on: the true drop is above it in at most about 5 % of 3,000 draws."""
    random = np.random.default_rng(3)
    draws = 3000
    shape = (draws, rows)
    if kind == "small losses both ways":
        changes, truth = random.uniform(-0.1, 0.2, shape), 0.05
    elif kind == "rare full losses":
        changes, truth = (random.random(shape) < 0.02) * 0.99, 0.02 * 0.99
    elif kind == "skewed losses":
        changes, truth = random.beta(0.2, 3.8, shape), 0.05
    else:
        changes, truth = random.uniform(-0.9, 1.0, shape), 0.05
    wrong = 0
    for row in changes:
        before = np.clip(row, 0, 1)
        wrong += paired(before.tolist(), (before - row).tolist()).upper(0.95) < truth
    assert wrong / draws <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / draws)


def test_equal_scores_never_give_a_bound_of_zero_width() -> None:
    for scores in ([1.0] * 150, [0.25, 0.5] * 75):
        same = paired(scores, scores)
        assert same.drop == 0
        assert same.upper(0.95) == pytest.approx(1 - 0.05 ** (1 / 150))
        assert same.lower(0.95) == -same.upper(0.95)
    assert (1 - unseen_bound(150, 0.95)) ** 150 == pytest.approx(0.05)


def test_one_tiny_change_does_not_make_the_bound_narrower_than_none() -> None:
    before = [0.5] * 150
    assert paired(before, [0.501, *before[1:]]).upper(0.95) > 0.9 * unseen_bound(150, 0.95)


@pytest.mark.parametrize("scores", [([1, 1, 0, 1] * 20, [1, 0, 0, 1] * 20), ([0.5, 0.9] * 30, [0.4, 0.95] * 30)])
def test_the_p_value_is_where_the_bound_is_nought(scores: tuple[list[float], list[float]]) -> None:
    found = paired(*scores)
    assert found.lower(1 - found.p_value) == pytest.approx(0, abs=1e-4)
    assert paired([1.0] * 40, [1.0] * 40).p_value == pytest.approx(1)


def test_what_is_summarised() -> None:
    found = paired([1, 1, 0, 1], [1, 0, 1, 0])
    assert (found.rows, found.before, found.after, found.drop, found.psi) == (4, 0.75, 0.5, 0.25, 0.75)
    assert found.binary
    assert not paired([0.5, 1], [1, 1]).binary
    assert (paired([1], [0]).lower(0.95), paired([1], [0]).upper(0.95)) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("before", "after"), [([1, 0], [1]), ([], []), ([1.5], [1]), ([float("nan")], [0]), ([0, 1], [0, -0.1])]
)
def test_scores_that_are_no_pairs(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match=r"scores?"):
        paired(before, after)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.floats(0.6, 0.995))
def test_bounds_enclose_the_drop_and_mirror_each_other(pairs: list[tuple[float, float]], level: float) -> None:
    before, after = zip(*pairs, strict=True)
    there, back = paired(before, after), paired(after, before)
    assert -1 <= there.lower(level) <= there.drop <= there.upper(level) <= 1
    assert there.lower(level) == pytest.approx(-back.upper(level), abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 100), st.floats(0.6, 0.99))
def test_binary_bounds_are_ordered(lost: int, gained: int, same: int, level: float) -> None:
    rows = lost + gained + same
    if rows < 2:
        return
    found = binary(lost, gained, rows)
    assert -1 <= found.lower(level) <= found.drop <= found.upper(level) <= 1
    assert found.upper(level) <= found.upper((1 + level) / 2) + 1e-12
    if lost and same:  # unless every row was lost, one loss more moves the bound up
        assert binary(lost + 1, gained, rows + 1).upper(level) >= found.upper(level) - 1e-9 or lost / rows > 0.5

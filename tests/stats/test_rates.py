"""Two arms, looked at all the time: errors stay below what theory allows, and planted differences are found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nacre.stats.rates import (
    Drop,
    blocks,
    clipped_logs,
    log_drop,
    mean_bounds,
    rate_bounds,
    rise_of,
    split_evidence,
)

ALPHA = 0.05
RUNS = 200
LIMIT = 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)  # the bound, and three standard errors of the simulation


def traffic(random: np.random.Generator, rows: int, share: float, old: float, new: float) -> list[float]:
    """Right/wrong answers of two arms as differences."""
    arms = random.random(rows) < share
    return blocks(arms, (random.random(rows) < np.where(arms, new, old)).astype(float))


def looks(differences: list[float], every: int = 20) -> list[Drop]:
    return [Drop(differences[:end]) for end in range(every, len(differences) + 1, every)]


def test_blocks_are_the_shortest_runs_that_hold_both_arms() -> None:
    arms = [False, False, True, True, False, False]
    assert blocks(arms, [1, 0, 1, 1, 0, 1]) == [0.5 - 1, 0 - 1]
    assert blocks([True, True], [1, 1]) == []


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_an_equal_arm_is_hardly_ever_called_worse_however_often_one_looks(share: float) -> None:
    random = np.random.default_rng(1)
    false = 0
    for _ in range(RUNS):
        found = traffic(random, 1500, share, 0.8, 0.8)
        false += any(look.more_than(0.0) >= 1 / ALPHA for look in looks(found))
    assert false / RUNS <= LIMIT


def test_a_drop_of_the_margin_is_hardly_ever_called_smaller() -> None:
    random = np.random.default_rng(2)
    false = 0
    for _ in range(RUNS):
        found = traffic(random, 1500, 0.5, 0.8, 0.7)
        false += any(look.less_than(0.1) >= 1 / ALPHA for look in looks(found))
    assert false / RUNS <= LIMIT


def test_a_day_that_gets_harder_for_everyone_is_no_drop() -> None:
    """The new arm grows from 5 to 50 % while everything gets worse: pooled means would blame the new arm."""
    random = np.random.default_rng(3)
    false, pooled = 0, []
    for _ in range(RUNS):
        share, right = np.linspace(0.05, 0.5, 1500), np.linspace(0.95, 0.6, 1500)
        arms = random.random(1500) < share
        values = (random.random(1500) < right).astype(float)
        pooled.append(values[~arms].mean() - values[arms].mean())
        false += Drop(blocks(arms, values)).more_than(0.0) >= 1 / ALPHA
    assert np.mean(pooled) > 0.05, "the trap is not set"
    assert false / RUNS <= LIMIT


def test_a_worse_arm_is_found_and_an_equal_one_shown_within_the_margin() -> None:
    random = np.random.default_rng(4)
    worse = [Drop(traffic(random, 1500, 0.5, 0.8, 0.6)).more_than(0.0) >= 1 / ALPHA for _ in range(50)]
    equal = [Drop(traffic(random, 4000, 0.5, 0.9, 0.9)).less_than(0.1) >= 1 / ALPHA for _ in range(50)]
    assert np.mean(worse) >= 0.95
    assert np.mean(equal) >= 0.95


def test_bounds_agree_with_the_evidence_and_cover_at_every_look() -> None:
    random = np.random.default_rng(5)
    missed = 0
    for _ in range(100):
        seen = looks(traffic(random, 600, 0.5, 0.8, 0.7), every=50)
        missed += any(look.lower(ALPHA) > 0.1 for look in seen)
        for look in seen[-1:]:
            assert look.more_than(look.lower(ALPHA) - 1e-6) >= 1 / ALPHA or look.lower(ALPHA) == -1
            assert look.more_than(look.lower(ALPHA) + 1e-6) < 1 / ALPHA
            assert look.lower(ALPHA) < look.mean < look.upper(ALPHA)
    assert missed / 100 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 100)


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(-0.9, 0.9))
def test_the_order_does_not_matter_and_nothing_seen_is_nothing_shown(values: list[float], bar: float) -> None:
    assert Drop([]).more_than(bar) == 1
    one, other = Drop(values).more_than(bar), Drop(sorted(values)).more_than(bar)
    assert math.isclose(one, other, rel_tol=1e-9)
    assert -1 <= Drop(values).lower(0.05) <= Drop(values).upper(0.05) <= 1


def test_all_right_against_all_wrong_takes_a_handful_of_requests() -> None:
    needed = next(count for count in range(1, 100) if Drop([1.0] * count).more_than(0.01) >= 1 / 0.0125)
    assert needed <= 12


def test_a_difference_outside_the_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="outside -1 to 1"):
        Drop([1.5])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.5])
def test_skewed_seconds_stop_an_equal_arm_no_more_often_than_they_may(share: float) -> None:
    """One request in twenty is answered from a cache in 20 ms, the others take 5 s."""
    random = np.random.default_rng(6)
    rows, bar, stopped, passed = int(200 / share), log_drop(0.25), 0, 0
    for _ in range(RUNS):
        arms = random.random(rows) < share
        seconds = np.where(random.random(rows) < 0.05, 0.02, 5 * random.lognormal(0, 0.1, rows))
        for rise, test in ((1.0, Drop.more_than), (1.25, Drop.less_than)):
            slower = clipped_logs(np.where(arms, seconds * rise, seconds), 5.0)
            found = blocks(arms, [1 - value for value in slower])
            alarm = any(test(look, 0.0 if rise == 1 else bar * 0.94) >= 1 / ALPHA for look in looks(found, 10))
            stopped += alarm and rise == 1
            passed += alarm and rise != 1
    assert stopped / RUNS <= LIMIT
    assert passed / RUNS <= LIMIT


def test_seconds_that_double_are_found_and_the_scale_goes_both_ways() -> None:
    random = np.random.default_rng(9)
    arms = random.random(600) < 0.5
    seconds = random.lognormal(0, 0.6, 600) * np.where(arms, 2.0, 1.0)
    seen = Drop(blocks(arms, [1 - value for value in clipped_logs(seconds, 1.0)]))
    assert seen.more_than(log_drop(0.25)) >= 1 / ALPHA
    assert math.isclose(rise_of(seen.mean), 1.0, abs_tol=0.25)
    assert math.isclose(rise_of(log_drop(0.3)), 0.3)
    assert clipped_logs([1e-9, 2.0, 1e9], 2.0) == [0.0, 0.5, 1.0]


def test_bounds_of_a_mean_cover_at_every_look() -> None:
    random = np.random.default_rng(10)
    missed = 0
    for _ in range(100):
        values = random.choice([0.0, 0.25, 1.0], 400, p=[0.1, 0.2, 0.7])
        seen = [mean_bounds(values[:end], ALPHA) for end in range(20, 401, 40)]
        missed += any(not low <= 0.75 <= high for low, high in seen)
        assert seen[-1][1] - seen[-1][0] < 0.2
    assert missed / 100 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 100)
    assert mean_bounds([], ALPHA) == (0.0, 1.0)


@pytest.mark.slow
def test_rate_bounds_cover_at_every_look() -> None:
    random = np.random.default_rng(7)
    missed = 0
    for _ in range(RUNS):
        hits = (random.random(800) < 0.05).cumsum()
        seen = [rate_bounds(int(hits[end - 1]), end, ALPHA) for end in range(20, 801, 20)]
        missed += any(not low <= 0.05 <= high for low, high in seen)
    assert missed / RUNS <= LIMIT
    assert rate_bounds(0, 0, ALPHA) == (0.0, 1.0)
    low, high = rate_bounds(0, 100, ALPHA)
    assert low == 0
    # by hand: the mixture of no hits in n trials is 1 / (n + 1), so (1 - p)^n = 1 / (n + 1) * alpha at the bound
    assert math.isclose((1 - high) ** 100, ALPHA / 101, rel_tol=1e-6)
    with pytest.raises(ValueError, match="5 hits in 3 trials"):
        rate_bounds(5, 3, ALPHA)


def test_a_split_as_set_is_left_alone_and_a_wrong_one_is_caught() -> None:
    random = np.random.default_rng(8)
    steps = [(0.05, 400), (0.25, 400), (0.5, 400)]
    false = caught = 0
    for _ in range(RUNS):
        for wrong in (False, True):
            alarm = False
            periods = []
            for share, arrivals in steps:
                counts = {"new": 0, "old": 0}
                shares = {"new": share, "old": 1 - share}
                new = random.random(arrivals) < (share * 0.7 if wrong else share)
                for end in range(50, arrivals + 1, 50):
                    counts = {"new": int(new[:end].sum()), "old": end - int(new[:end].sum())}
                    alarm |= split_evidence([*periods, (counts, shares)]) >= 1 / 0.01
                periods.append((counts, shares))
            false += alarm and not wrong
            caught += alarm and wrong
    assert false / RUNS <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / RUNS)
    assert caught / RUNS >= 0.95


def test_somebody_where_nobody_should_be_refutes_the_split_at_once() -> None:
    assert split_evidence([({"new": 1, "old": 5}, {"new": 0.0, "old": 1.0})]) == math.inf
    assert split_evidence([({"new": 0, "old": 5}, {"new": 0.0, "old": 1.0})]) == 1
    with pytest.raises(ValueError, match="do not sum to one"):
        split_evidence([({}, {"new": 0.5})])

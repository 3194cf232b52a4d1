"""The sequential test keeps its promises at every look, as theory says, up to the stated noise of the simulation."""

import math
from itertools import pairwise

import numpy as np
import pytest
from simulation import changes, noise, smooth

from nacre.stats.sequential import (
    FIRST_LOOK,
    PRIOR_ROWS,
    Sequential,
    lower_bound,
    next_look,
    passing,
    simulate,
    upper_bound,
)

MARGIN, ALARM, ACCEPT = 0.02, 20.0, 5.0
FIXED_ROWS = {0.05: 771, 0.1: 1544, 0.2: 3090}  # of a fixed-sample test: (z.95 + z.8)^2 psi / margin^2
EXPERIMENTS = 1000


def shares(differences: np.ndarray, margin: float = MARGIN) -> tuple[dict[str, float], float]:
    outcome, used = simulate(differences, margin, alarm=ALARM, accept=ACCEPT)
    return {name: float((outcome == name).mean()) for name in ("pass", "fail", "undecided")}, float(used.mean())


@pytest.mark.parametrize("psi", [0.05, 0.1, 0.2])
def test_an_unchanged_model_is_seldom_refused_and_takes_about_half_the_rows(psi: float) -> None:
    fixed = FIXED_ROWS[psi]
    found, used = shares(changes(EXPERIMENTS, 2 * fixed, psi, 0.0))
    assert found["fail"] <= 0.05 + noise(0.05, EXPERIMENTS)
    assert found["pass"] >= 0.9
    # the standard deviation of the rows used is below half of the fixed number of rows
    assert 1 - used / fixed >= 0.45 - 2 * 0.5 / math.sqrt(EXPERIMENTS) * (psi < 0.1)


@pytest.mark.parametrize(("psi", "saved"), [(0.05, 0.35), (0.1, 0.43), (0.2, 0.45)])
def test_what_has_to_be_scored_at_the_looks_that_are_taken(psi: float, saved: float) -> None:
    """`evolve` scores rows up to the next look: a little more than the test reads."""
    rows = 2 * FIXED_ROWS[psi]
    looks = [FIRST_LOOK]
    while looks[-1] < rows:
        looks.append(next_look(looks[-1], rows))
    assert all(later > earlier for earlier, later in pairwise(looks))
    assert looks[-1] == rows
    _, used = simulate(changes(EXPERIMENTS, rows, psi, 0.0), MARGIN, alarm=ALARM, accept=ACCEPT)
    scored = np.array(looks)[np.searchsorted(looks, used)]
    assert 1 - scored.mean() / FIXED_ROWS[psi] >= saved
    assert (scored >= used).all()


def test_passing_is_what_simulate_counts_without_alarms() -> None:
    rows = changes(500, 300, 0.1, 0.0, seed=9)
    outcome, _ = simulate(rows, 0.04, alarm=math.inf, accept=ACCEPT)
    assert passing(rows, 0.04, accept=ACCEPT) == (outcome == "pass").mean()


@pytest.mark.slow
@pytest.mark.parametrize("psi", [0.05, 0.1, 0.2])
def test_a_drop_of_the_margin_is_missed_once_in_five_at_most_and_mostly_found(psi: float) -> None:
    found, _ = shares(changes(EXPERIMENTS, 2 * FIXED_ROWS[psi], psi, MARGIN))
    assert found["pass"] <= 0.20 + noise(0.20, EXPERIMENTS)
    assert found["fail"] >= 0.72


def test_a_loss_beyond_the_margin_is_hardly_ever_missed_and_found_fast() -> None:
    rows = 2 * FIXED_ROWS[0.1]
    for drop, missed, fraction in ((0.03, 0.07, 0.55), (0.04, 0.02, 0.35), (0.08, 0.005, 0.12)):
        found, used = shares(changes(EXPERIMENTS, rows, 0.1, drop))
        assert found["pass"] <= missed
        assert used / FIXED_ROWS[0.1] <= fraction


def test_looking_at_every_row_does_not_inflate_errors_as_it_does_for_a_plain_test() -> None:
    """The plain test is McNemar's z, looked at every 50 rows: a quarter of unchanged models would be refused."""
    differences = changes(EXPERIMENTS, 1550, 0.1, 0.0)
    totals, squares = np.cumsum(differences, -1)[:, 49::50], np.cumsum(differences**2, -1)[:, 49::50]
    plain = (totals / np.sqrt(np.maximum(squares, 1)) > 1.645).any(-1).mean()
    found, _ = shares(differences)
    assert plain > 0.2
    assert found["fail"] <= 0.05 + noise(0.05, EXPERIMENTS)


@pytest.mark.parametrize("drop", [0.0, MARGIN])
@pytest.mark.parametrize("spread", [0.05, 0.4, 0.9])
def test_scores_that_are_not_right_or_wrong_keep_the_same_promises(drop: float, spread: float) -> None:
    found, _ = shares(smooth(EXPERIMENTS, 2600, spread, drop))
    if drop:
        assert found["pass"] <= 0.20 + noise(0.20, EXPERIMENTS)
    else:
        assert found["fail"] <= 0.05 + noise(0.05, EXPERIMENTS)
        assert found["pass"] >= 0.8


@pytest.mark.parametrize("margin", [0.02, 0.1])
def test_rare_full_losses_as_large_as_the_margin_are_no_way_around_it(margin: float) -> None:
    """The hardest case for a bound: nothing ever gets better, a share of the margin's size is lost altogether."""
    found, _ = shares(changes(EXPERIMENTS, 400, margin, margin), margin)
    assert found["pass"] <= 0.20 + noise(0.20, EXPERIMENTS)


def test_the_capitals_are_martingales() -> None:
    """Under its own hypothesis a capital keeps its mean of one; this fails if a bet knew the row it is made on."""
    from nacre.stats.sequential import _play, _State

    for drop, name in ((0.0, "drop"), (0.05, "margin")):
        found, _ = _play(changes(60_000, 12, 0.3, drop, seed=4), 0.05, _State())
        capital = np.exp(getattr(found, name)[:, -1])
        assert capital.mean() == pytest.approx(1.0, abs=3 * capital.std() / math.sqrt(len(capital)))


def test_chunks_of_any_size_give_the_same_decision_as_all_rows_at_once() -> None:
    random = np.random.default_rng(2)
    for seed in range(30):
        rows = changes(1, 900, 0.15, random.choice([0.0, 0.02, 0.06]), seed=seed)[0]
        whole, parts = (Sequential(0.03, alarm=ALARM, accept=ACCEPT) for _ in range(2))
        whole.feed(rows)
        at = 0
        while at < len(rows) and not parts.feed(rows[at : (at := at + int(random.integers(1, 200)))]):
            pass
        outcome, used = simulate(rows[None], 0.03, alarm=ALARM, accept=ACCEPT)
        assert (parts.stopped, parts.rows_used) == (whole.stopped, whole.rows_used)
        assert parts.e_value == pytest.approx(whole.e_value)
        assert parts.e_margin == pytest.approx(whole.e_margin)
        assert used[0] == whole.rows_used
        if whole.stopped:
            assert outcome[0] == whole.stopped


def test_rows_after_the_decision_are_not_read() -> None:
    test = Sequential(0.1, alarm=ALARM, accept=ACCEPT)
    assert test.feed([0.0] * 100) == "pass"
    read = test.rows_used
    assert read < 100
    assert test.feed([1.0] * 100) == "pass"
    assert test.rows_used == read
    assert test.e_margin >= ACCEPT


def test_an_alarm_below_the_margin_goes_on_being_read_until_the_margin_is_shown() -> None:
    """Each hundredth row is lost, and the first of them raises this easy alarm; the margin is 0.02."""
    rows = np.tile([0.0] * 99 + [1.0], 40)
    test = Sequential(0.02, alarm=1.05, accept=5.0)
    assert test.feed(rows[:100]) is None
    assert test.feed(rows) == "pass"
    assert test.e_value >= 1.05


def test_a_margin_of_nought_is_passed_only_by_what_got_better() -> None:
    better, same = (Sequential(0.0, alarm=ALARM, accept=ACCEPT) for _ in range(2))
    assert better.feed([-1.0, 0.0] * 150) == "pass"
    assert same.feed([0.0] * 5000) is None


def test_what_is_no_difference_is_refused() -> None:
    for wrong in ([1.5], [float("nan")], [-1.01]):
        with pytest.raises(ValueError, match="between -1 and 1"):
            Sequential(0.1, alarm=ALARM, accept=ACCEPT).feed(wrong)


@pytest.mark.parametrize(("psi", "drop"), [(0.0, 0.0), (0.05, 0.05), (0.1, 0.0), (0.3, 0.1), (0.5, -0.2)])
def test_intervals_cover_at_every_look(psi: float, drop: float) -> None:
    """Looked at after every tenth row up to the last: the truth is ever outside in at most 5 % of experiments."""
    experiments, rows = 200, 150
    outside = 0
    for differences in changes(experiments, rows, psi, drop, seed=5):
        looks = [differences[:count] for count in range(10, rows + 1, 10)]
        outside += any(
            not lower_bound(seen, 0.975, planned=rows) - 1e-9 <= drop <= upper_bound(seen, 0.975, planned=rows) + 1e-9
            for seen in looks
        )
    assert outside / experiments <= 0.05 + noise(0.05, experiments)


def test_intervals_cover_scores_that_are_not_right_or_wrong() -> None:
    outside = sum(
        not lower_bound(row, 0.975) <= 0.03 <= upper_bound(row, 0.975) for row in smooth(300, 200, 0.4, 0.03, seed=6)
    )
    assert outside / 300 <= 0.05 + noise(0.05, 300)


def test_intervals_are_about_half_wider_than_those_of_a_single_look() -> None:
    for psi, rows in ((0.1, 1500), (0.1, 150), (0.3, 150)):
        found = changes(100, rows, psi, 0.0, seed=7)
        width = np.mean([upper_bound(row, 0.975) - lower_bound(row, 0.975) for row in found])
        assert 1 <= width / (2 * 1.96 * math.sqrt(psi / rows)) <= 1.75


def test_bounds_mirror_each_other_and_know_their_limits() -> None:
    row = changes(1, 80, 0.3, 0.1, seed=8)[0]
    assert lower_bound(row, 0.95) == pytest.approx(-upper_bound(-row, 0.95))
    assert lower_bound(row, 0.99) < lower_bound(row, 0.9) < row.mean() < upper_bound(row, 0.9) < upper_bound(row, 0.99)
    assert (lower_bound([], 0.95), upper_bound([], 0.95)) == (-1.0, 1.0)
    assert lower_bound([1.0] * 5, 0.95) > lower_bound([1.0] * 2, 0.95) >= -1
    assert PRIOR_ROWS > 0

import pytest
from simulation import changes, smooth

from nacre.stats.sequential import Sequential, simulate
from nacre.stats.sequential_planning import rows_to_show_sequential, rows_to_stop, smallest_drop_sequential


def passed(rows: int, psi: float, margin: float, *, seed: int = 11) -> float:
    outcome, _ = simulate(changes(1500, rows, psi, 0.0, seed=seed), margin, alarm=20.0, accept=5.0)
    return float((outcome == "pass").mean())


@pytest.mark.parametrize(("rows", "psi"), [(50, 0.05), (80, 0.1), (150, 0.02), (150, 0.1), (400, 0.2), (1500, 0.1)])
def test_an_unchanged_model_passes_four_times_in_five_at_the_smallest_drop(rows: int, psi: float) -> None:
    """Played out anew with other draws; the plan itself is played out, and is good to about three points."""
    shown = smallest_drop_sequential(rows, psi, accept=5.0)
    assert 0.75 <= passed(rows, psi, shown) <= 0.89
    assert passed(rows, psi, shown * 0.75) < 0.75


def test_without_a_change_it_is_nearly_the_bound_that_cannot_be_beaten() -> None:
    """(1 - drop)^rows <= 1/5: fewer than 80 rows cannot show 0.02 to anyone who will miss one in five."""
    for rows in (80, 150, 300):
        bound = 1 - 0.2 ** (1 / rows)
        assert bound < smallest_drop_sequential(rows, 0.0, accept=5.0) <= 1.8 * bound


@pytest.mark.slow
@pytest.mark.parametrize("psi", [0.0, 0.01, 0.05, 0.2])
def test_more_rows_never_show_less(psi: float) -> None:
    rows = [*range(60, 440, 20), 600, 1000, 3000]
    shown = [smallest_drop_sequential(count, psi, accept=5.0) for count in rows]
    assert shown == sorted(shown, reverse=True)


def test_more_changes_never_show_more() -> None:
    for rows in (100, 1000):
        shown = [smallest_drop_sequential(rows, changed / 50, accept=5.0) for changed in range(25)]
        assert shown == sorted(shown)


def test_a_drop_beyond_all_measure_takes_more_rows_than_there_are() -> None:
    assert rows_to_show_sequential(1e-300, 0.1, accept=5.0) == 10**9


def test_scores_that_are_not_right_or_wrong_pass_as_often() -> None:
    rows = smooth(1500, 300, 0.5, 0.0, seed=12)
    shown = smallest_drop_sequential(300, float((rows**2).mean()), accept=5.0)
    outcome, _ = simulate(rows, shown, alarm=20.0, accept=5.0)
    assert (outcome == "pass").mean() >= 0.76


def test_large_numbers_of_rows_scale_as_they_must() -> None:
    for psi in (0.05, 0.2):
        few, many = (smallest_drop_sequential(rows, psi, accept=5.0) for rows in (4000, 400_000))
        assert many / few == pytest.approx(0.1, rel=0.02)
    unchanged = [smallest_drop_sequential(rows, 0.0, accept=5.0) for rows in (4000, 40_000)]
    assert unchanged[1] / unchanged[0] == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(
    ("drop", "psi"), [(0.02, 0.0), (0.02, 0.02), (0.02, 0.1), (0.05, 0.1), (0.1, 0.3), (0.004, 0.1)]
)
def test_the_rows_asked_for_show_it(drop: float, psi: float) -> None:
    rows = rows_to_show_sequential(drop, psi, accept=5.0)
    assert smallest_drop_sequential(rows, psi, accept=5.0) == pytest.approx(drop, rel=0.05)


def test_two_points_take_about_as_many_rows_as_a_fixed_test_would() -> None:
    assert 1300 <= rows_to_show_sequential(0.02, 0.1, accept=5.0) <= 1750  # 1,544 for the fixed one


def test_nothing_shows_a_drop_of_nothing() -> None:
    with pytest.raises(ValueError, match="no number of rows"):
        rows_to_show_sequential(0.0, 0.1, accept=5.0)
    assert smallest_drop_sequential(1, 0.1, accept=5.0) == 1.0


def test_the_same_question_has_the_same_answer() -> None:
    from nacre.stats import sequential_planning

    first = smallest_drop_sequential(150, 0.1, accept=5.0)
    sequential_planning._smallest.cache_clear()
    assert smallest_drop_sequential(150, 0.1, accept=5.0) == first


@pytest.mark.parametrize("drop", [0.0, 0.1])
def test_the_rows_that_are_missing_do_stop_the_test(drop: float) -> None:
    """Undecided after 60 rows; with as many more as are asked for about four in five experiments stop."""
    stopped = asked = 0
    for differences in changes(400, 4000, 0.2, drop, seed=13):
        test = Sequential(0.05, alarm=20.0, accept=5.0)
        if test.feed(differences[:60]):
            continue
        more = rows_to_stop(test, drop, 0.2, alarm=20.0, accept=5.0)
        assert more is not None
        asked += 1
        stopped += test.feed(differences[60 : 60 + more]) is not None
    assert asked > 100
    assert 0.68 <= stopped / asked <= 0.95


def test_no_rows_stop_a_test_that_neither_side_can_win() -> None:
    test = Sequential(0.0, alarm=20.0, accept=5.0)
    test.feed([0.0] * 50)
    assert rows_to_stop(test, 0.0, 0.0, alarm=20.0, accept=5.0) is None

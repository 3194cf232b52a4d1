import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.stats.planning import rows_to_decide, rows_to_show, smallest_drop


def test_unchanged_rows_show_what_the_bound_on_them_shows() -> None:
    for binary in (True, False):
        assert smallest_drop(150, 0.0, level=0.95, binary=binary) == pytest.approx(1 - 0.05 ** (1 / 150))
        assert rows_to_show(0.02, 0.0, level=0.95, binary=binary) == 149  # 0.98^149 < 0.05 < 0.98^148


def test_the_usual_formula_holds_for_many_rows() -> None:
    """(z_.95 + z_.8)^2 psi / drop^2, the sample size of a paired non-inferiority trial: 1,546 for psi 0.1."""
    found = rows_to_show(0.02, 0.1, level=0.95, binary=True)
    assert found == pytest.approx(2.4865**2 * 0.1 / 0.02**2, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.005, 0.5), st.floats(0, 0.5), st.booleans())
def test_the_rows_asked_for_are_enough_and_fewer_are_not(drop: float, psi: float, binary: bool) -> None:
    rows = rows_to_show(drop, psi, level=0.95, binary=binary)
    assert smallest_drop(rows, psi, level=0.95, binary=binary) <= drop
    assert rows == 2 or smallest_drop(rows - 1, psi, level=0.95, binary=binary) > drop


def test_nothing_shows_a_drop_of_nothing() -> None:
    with pytest.raises(ValueError, match="no number of rows"):
        rows_to_show(0.0, 0.1, level=0.95, binary=True)
    assert smallest_drop(1, 0.1, level=0.95, binary=True) == 1.0


def test_rows_to_decide_takes_the_shorter_way() -> None:
    towards_pass = rows_to_decide(0.0, 0.1, 0.05, level=0.95, fail_level=0.95)
    towards_fail = rows_to_decide(0.1, 0.1, 0.05, level=0.95, fail_level=0.95)
    assert towards_pass == pytest.approx(2.4865**2 * 0.1 / 0.05**2, rel=0.01)
    assert towards_fail == pytest.approx(2.4865**2 * 0.1 / 0.1**2, rel=0.01)
    assert rows_to_decide(0.1, 0.1, 0.05, level=0.95, fail_level=0.99) > towards_fail
    assert rows_to_decide(0.0, 0.1, 0.0, level=0.95, fail_level=0.95) is None
    assert rows_to_decide(0.0, 0.0, 0.1, level=0.95, fail_level=0.95) == 29

"""Agreement of raters and win rates, against worked examples and scikit-learn."""

import random

import pytest
from sklearn.metrics import cohen_kappa_score

from nacre.stats.agreement import COHEN, FLEISS, WEIGHTED, agreement, win_rate

# Fleiss 1971, Table 1, as it is usually reprinted: 10 items, 14 raters, 5 categories; kappa 0.210
TABLE = [
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
]


def test_cohen_by_hand():
    # 50 items: both yes 20, both no 15, only A yes 5, only B yes 10: agreement 0.7, by chance 0.5, kappa 0.4
    said = [("yes", "yes")] * 20 + [("no", "no")] * 15 + [("yes", "no")] * 5 + [("no", "yes")] * 10
    found = agreement([{"a": one, "b": other} for one, other in said])
    assert (found.name, found.items, found.raters) == (COHEN, 50, 2)
    assert found.value == pytest.approx(0.4)


def test_cohen_takes_the_items_that_both_answered():
    both = [{"a": "x", "b": "x"}, {"a": "y", "b": "y"}, {"a": "x", "b": "y"}, {"a": "y", "b": "y"}]
    found = agreement([*both, {"a": "x"}, {"b": "y"}, {}])
    assert found == agreement(both)
    assert found.items == 4


def test_ratings_of_two_count_near_misses_less():
    draw = random.Random(3)
    first = [draw.randint(1, 5) for _ in range(60)]
    second = [min(5, max(1, one + draw.choice((-1, 0, 0, 1)))) for one in first]
    items = [{"a": one, "b": other} for one, other in zip(first, second, strict=True)]
    found = agreement(items, ordered=True)
    assert found.name == WEIGHTED
    assert found.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))
    assert found.value > agreement(items).value


def test_ratings_that_nobody_gave_lie_between_the_others():
    first, second = [1, 1, 5, 5, 2, 1, 5, 2], [1, 2, 5, 5, 1, 1, 2, 5]
    found = agreement([{"a": one, "b": other} for one, other in zip(first, second, strict=True)], ordered=True)
    # by hand: squared distances sum to 20 over the 8 items; over all 64 pairs of the two to 408, which is 51 in 8
    assert found.value == pytest.approx(1 - 20 / 51)
    assert found.value == pytest.approx(cohen_kappa_score(first, second, labels=[1, 2, 3, 4, 5], weights="quadratic"))


def test_fleiss_by_the_worked_example():
    items = []
    for counts in TABLE:
        chosen = [category for category, count in enumerate(counts) for _ in range(count)]
        items.append({f"rater {place}": category for place, category in enumerate(chosen)})
    found = agreement(items)
    assert (found.name, found.items, found.raters) == (FLEISS, 10, 14)
    assert found.value == pytest.approx(0.210, abs=5e-4)


def test_fleiss_takes_the_items_of_the_most_frequent_number_of_answers():
    three = [{"a": "x", "b": "x", "c": "y"}, {"a": "y", "b": "y", "c": "y"}, {"a": "x", "b": "x", "c": "x"}]
    found = agreement([*three, {"a": "x", "b": "y"}, {"c": "y"}])
    assert found == agreement(three)
    assert found.items == 3


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([{"a": "x"}, {"b": "x"}], "no item was answered by two people"),
        ([], "no item was answered by two people"),
        ([{"a": "x", "b": "x"}] * 3, "always chose the same"),
        ([{"a": "x", "b": "x", "c": "x"}] * 3, "always chose the same"),
    ],
)
def test_where_there_is_no_agreement_to_speak_of_the_reason_is_said(items, reason):
    found = agreement(items)
    assert found.value is None
    assert reason in found.reason


def test_win_rate_by_hand():
    found = win_rate([1.0] * 6 + [0.5] * 2 + [0.0] * 2)
    assert (found.value, found.wins, found.ties, found.losses) == (0.7, 6, 2, 2)
    assert 0 <= found.low < 0.7 < found.high <= 1
    assert win_rate([1.0] * 10).high == 1
    assert win_rate([1.0] * 10).low < 1
    with pytest.raises(ValueError, match="no scores"):
        win_rate([])


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_the_interval_of_the_win_rate_covers(ties):
    draw, hits = random.Random(1), 0
    for _ in range(400):
        scores = [0.5 if draw.random() < ties else float(draw.random() < 0.6) for _ in range(60)]
        found = win_rate(scores)
        hits += found.low <= 0.6 * (1 - ties) + 0.5 * ties <= found.high
    assert hits / 400 >= 0.92

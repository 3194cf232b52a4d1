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


def counted(table):
    """Items of two raters out of a square table of counts."""
    return [
        {"a": row, "b": column}
        for row, counts in enumerate(table)
        for column, count in enumerate(counts)
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("table", "kappa"),
    # by hand: agreement 0.7 and 0.5 by chance; agreement 0.7 and 0.475 by chance
    [([[20, 5], [10, 15]], 0.4), ([[106, 10, 4], [22, 28, 10], [2, 12, 6]], 0.4286)],
)
def test_the_interval_is_near_the_variance_of_fleiss_cohen_and_everitt(table, kappa):
    table = [[count * 50 for count in row] for row in table]  # so many items that what is added does not matter
    found = agreement(counted(table))
    assert found.value == pytest.approx(kappa, abs=5e-4)
    kappa = found.value
    total = sum(map(sum, table))
    share = [[count / total for count in row] for row in table]
    places = range(len(table))
    first, second = [sum(share[i]) for i in places], [sum(row[j] for row in share) for j in places]
    chance = sum(first[i] * second[i] for i in places)
    a = sum(share[i][i] * (1 - (first[i] + second[i]) * (1 - kappa)) ** 2 for i in places)
    b = (1 - kappa) ** 2 * sum(share[i][j] * (second[i] + first[j]) ** 2 for i in places for j in places if i != j)
    c = (kappa - chance * (1 - kappa)) ** 2
    error = ((a + b - c) / total) ** 0.5 / (1 - chance)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.01)


def test_the_interval_of_fleiss_is_near_the_jackknife():
    draw = random.Random(5)
    items = []
    for _ in range(300):
        truth = draw.choice("xyz")
        items.append({rater: truth if draw.random() < 0.8 else draw.choice("xyz") for rater in "abc"})
    found = agreement(items)
    without = [agreement(items[:place] + items[place + 1 :]).value for place in range(len(items))]
    mean = sum(without) / len(without)
    error = ((len(items) - 1) / len(items) * sum((one - mean) ** 2 for one in without)) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_raters_who_never_differed_may_differ_all_the_same():
    for raters in ("ab", "abc"):
        found = agreement([dict.fromkeys(raters, place % 2) for place in range(100)])
        assert found.value == found.high == 1
        assert 0.85 < found.low < 0.95


@pytest.mark.parametrize("raters", [2, 3])
@pytest.mark.parametrize("kappa", [0.5, 0.8, 0.9])
def test_the_interval_of_kappa_covers(raters, kappa):
    draw, above, below = random.Random(1), 0, 0
    shares = (0.4, 0.3, 0.2, 0.1)
    for _ in range(200):
        items = []
        for _ in range(100):
            truth = draw.choices("wxyz", shares)[0]
            # each rater sees the truth with the root of kappa, and else guesses by the shares
            said = [truth if draw.random() < kappa**0.5 else draw.choices("wxyz", shares)[0] for _ in range(raters)]
            items.append(dict(zip("abc", said, strict=False)))
        found = agreement(items)
        above, below = above + (found.low > kappa), below + (found.high < kappa)
    assert above <= 10  # 2.5 % are expected; this is the side on which a bad set would pass
    assert above + below <= 22

"""The stratified reservoir: every class stays, the order of the rows does not matter, more budget takes nothing."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.data.strata import choose, seats, stratify
from nacre.records import Example, Message


def row(question: str, answer: str) -> Example:
    return Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
    )


def classes(sizes: dict[str, int]) -> list[Example]:
    return [row(f"{name} {n}", name) for name, size in sizes.items() for n in range(size)]


def texts(count: int) -> list[Example]:
    """Rows without classes about two unlike things."""
    weather = [
        row(f"rain and wind on day {n}?", f"It rained for {n} hours and then the sun came out.") for n in range(count)
    ]
    cooking = [row(f"做第{n}道菜", f"先把第{n}种蔬菜洗干净，切成小块，放进锅里。") for n in range(count // 3)]
    return weather + cooking


SIZES = {"sport": 400, "finance": 300, "rare": 25, "rarest": 7}


def test_every_class_keeps_twenty_rows_or_all_it_has_and_the_rest_goes_by_size():
    chosen = choose(classes(SIZES), 200, floor=20, seed=0)
    counts = Counter(one.answer for one in chosen.rows)
    assert counts == {"sport": 99, "finance": 74, "rare": 20, "rarest": 7}
    assert (chosen.classes, chosen.clusters, chosen.raised) == (4, 0, 0)


def test_a_floor_beyond_the_budget_is_kept_and_told():
    chosen = choose(classes(SIZES), 50, floor=20, seed=0)
    assert Counter(one.answer for one in chosen.rows) == {"sport": 20, "finance": 20, "rare": 20, "rarest": 7}
    assert chosen.raised == 17
    within = choose(classes(SIZES), 50, floor=0, seed=0)
    assert len(within.rows) == 50
    assert within.raised == 0


def test_the_order_of_the_rows_and_the_rows_of_other_classes_do_not_matter():
    rows = classes(SIZES) + texts(300)
    chosen = choose(rows, 300, floor=20, seed=1)
    shuffled = random.Random(5).sample(rows, len(rows))
    again = choose(shuffled, 300, floor=20, seed=1)
    assert {one.content_id for one in again.rows} == {one.content_id for one in chosen.rows}
    assert [one.content_id for one in chosen.rows] == [
        one.content_id for one in rows if one.content_id in {kept.content_id for kept in chosen.rows}
    ]
    other = choose(rows, 300, floor=20, seed=2)
    assert {one.content_id for one in other.rows} != {one.content_id for one in chosen.rows}
    rare = [
        {one.content_id for one in choose(given, 67, floor=20, seed=1).rows if one.answer == "rare"}
        for given in (classes(SIZES), classes({**SIZES, "sport": 80}))
    ]
    assert rare[0] == rare[1]


def test_rows_without_classes_are_clustered_by_their_text():
    rows = texts(120)
    strata = stratify(rows, clusters=2, seed=0)
    assert sorted(map(len, strata.values())) == [40, 120]
    chosen = choose(rows, 60, floor=20, seed=0)
    counts = Counter(one.prompt[0].content.startswith("rain") for one in chosen.rows)
    assert len(chosen.rows) == 60
    assert counts[False] >= 20
    assert chosen.classes == 0
    assert chosen.clusters in (2, 3)
    assert list(stratify(rows[:30], clusters=16, seed=0)) == ["cluster 0"]


def test_clusters_never_force_more_rows_than_the_budget():
    assert len(choose(texts(300), 30, floor=20, seed=0).rows) == 30


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    budget=st.integers(0, 300),
    floor=st.integers(0, 25),
)
def test_seats_fill_the_budget_hold_the_floors_and_grow_with_the_budget(sizes, budget, floor):
    floors = [min(floor, size) for size in sizes]
    counts = seats(sizes, budget, floors)
    assert sum(counts) == max(sum(floors), min(budget, sum(sizes)))
    assert all(low <= count <= size for low, count, size in zip(floors, counts, sizes, strict=True))
    more = seats(sizes, budget + 1, floors)
    assert all(after >= before for before, after in zip(counts, more, strict=True))
    # no row could be moved to a stratum that is further below its due part, floors aside
    for k, size in enumerate(sizes):
        for other, its_size in enumerate(sizes):
            if counts[k] < size and counts[other] > floors[other]:
                assert size / (2 * counts[k] + 1) <= its_size / (2 * counts[other] - 1) + 1e-9


@pytest.mark.parametrize("budget", [1, 21, 60, 200, 10_000])
def test_a_larger_budget_keeps_what_a_smaller_one_kept(budget):
    rows = classes(SIZES)
    small, large = ({one.content_id for one in choose(rows, n, floor=20, seed=0).rows} for n in (budget, budget * 2))
    assert small <= large

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.data.schedule import Fresh, Stream, plan_steps, schedule, schedule_in_turn

streams = st.lists(
    st.builds(Stream, st.just("s"), st.lists(st.integers(0, 9), max_size=4).map(tuple), st.floats(0, 0.3)), max_size=3
)


@settings(max_examples=200, deadline=None)
@given(
    new=st.integers(0, 40),
    streams=streams,
    batch_size=st.integers(1, 9),
    steps=st.integers(0, 30),
    seed=st.integers(0, 3),
)
def test_shares_repeats_and_draws_hold_for_any_mix(new, streams, batch_size, steps, seed):
    slots = schedule(new, streams, batch_size=batch_size, steps=steps, seed=seed, max_repeats=4)
    filled = [stream for stream in streams if sum(stream.groups) and stream.share]
    counts = Counter(source for source, _ in slots)
    wanted = batch_size * steps
    # length: full, unless there is nothing to fill it with
    assert len(slots) == (wanted if filled else min(wanted, new * 4))
    # shares: to the slot over the whole, within one slot in every prefix
    shares = [0.0] + [stream.share if sum(stream.groups) else 0.0 for stream in streams]
    shares[0] = 1 - sum(shares)
    if filled and shares[0] * wanted <= new * 4:
        assert all(abs(counts[k] - share * wanted) < 1 + 1e-6 for k, share in enumerate(shares))
    running = Counter()
    for done, (source, _) in enumerate(slots, 1):
        running[source] += 1
        assert all(abs(running[k] - counts[k] * done / len(slots)) < 1 + 1e-6 for k in counts)
    # new rows: evenly, and never more often than allowed
    used = Counter(row for source, row in slots if source == 0)
    assert set(used) <= set(range(new))
    assert max(used.values(), default=0) <= 4
    assert not used or max(used.values()) - min(used[row] for row in range(new)) <= 1
    # streams: evenly over the groups that have rows, evenly inside each
    for k, stream in enumerate(streams, 1):
        used = Counter(row for source, row in slots if source == k)
        edges = [sum(stream.groups[:g]) for g in range(len(stream.groups) + 1)]
        groups = [[used[row] for row in range(a, b)] for a, b in pairwise(edges) if b > a]
        assert set(used) <= set(range(sum(stream.groups)))
        assert not groups or max(map(sum, groups)) - min(map(sum, groups)) <= 1
        assert all(max(group) - min(group) <= 1 for group in groups)
    assert slots == schedule(new, streams, batch_size=batch_size, steps=steps, seed=seed, max_repeats=4)


def test_a_fifth_of_each_batch_is_replayed_evenly_over_the_tasks():
    slots = schedule(300, [Stream("replay", (300, 50, 1000), 0.2)], batch_size=16, steps=30, seed=1)
    batches = [Counter(source for source, _ in slots[n : n + 16]) for n in range(0, 480, 16)]
    assert all(batch[1] in (3, 4) for batch in batches)
    assert sum(batch[1] for batch in batches) == 96
    tasks = Counter((row >= 300) + (row >= 350) for source, row in slots if source == 1)
    assert set(tasks.values()) == {32}
    first = [row for source, row in slots if source == 0][:300]
    assert sorted(first) == list(range(300))
    assert first != sorted(first)
    # spread inside the batch, not lumped at one end
    positions = [n % 16 for n, (source, _) in enumerate(slots) if source == 1]
    assert max(Counter(position // 4 for position in positions).values()) < 96 / 2


def test_passes_and_seeds_shuffle_differently():
    slots = schedule(50, [], batch_size=10, steps=10, seed=1)
    rows = [row for _, row in slots]
    assert sorted(rows[:50]) == sorted(rows[50:]) == list(range(50))
    assert rows[:50] != rows[50:]
    assert slots != schedule(50, [], batch_size=10, steps=10, seed=2)


def test_a_tiny_increment_leaves_its_slots_to_the_streams_in_proportion():
    mix = [Stream("replay", (100,), 0.2), Stream("generic", (100,), 0.1)]
    counts = Counter(source for source, _ in schedule(2, mix, batch_size=16, steps=30, seed=0))
    assert counts == {0: 60, 1: 280, 2: 140}
    assert len(schedule(2, [], batch_size=16, steps=30, seed=0)) == 60
    assert Counter(schedule(3, [], batch_size=16, steps=30, seed=0, max_repeats=1.5)).most_common(1)[0][1] == 2


def test_a_cap_on_repeats_is_said_and_only_then():
    mix = [Stream("replay", (100,), 0.2)]
    notes: list[str] = []
    schedule(2, mix, batch_size=16, steps=30, seed=0, notes=notes)
    schedule(2, [], batch_size=16, steps=30, seed=0, notes=notes)
    assert len(notes) == 2
    assert "2 new rows are repeated at most 30 times" in notes[0]
    assert "60 places of 480, and what is mixed in fills the others" in notes[0]
    assert "the run is shorter" in notes[1]
    schedule(16, mix, batch_size=16, steps=30, seed=0, notes=notes)
    found = schedule(2, [], batch_size=16, steps=30, seed=0, max_repeats=math.inf, notes=notes)
    assert len(found) == 480
    assert len(schedule_in_turn([2, 3], [], batch_size=4, steps=[20, 30], seed=0, notes=notes)[0]) == 60
    assert len(notes) == 4, "both parts were cut"
    whole = schedule_in_turn([2, 3], [], batch_size=4, steps=[20, 30], seed=0, max_repeats=[math.inf] * 2)
    assert [len(part) for part in whole] == [80, 120]


def test_an_empty_stream_leaves_its_share_to_the_new_rows():
    counts = Counter(
        source for source, _ in schedule(100, [Stream("replay", (), 0.2)], batch_size=10, steps=10, seed=0)
    )
    assert counts == {0: 100}
    assert schedule(0, [], batch_size=4, steps=4, seed=0) == []


@pytest.mark.parametrize("shares", [(1.0,), (0.6, 0.4), (-0.1,), (float("nan"),)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(InputError):
        schedule(5, [Stream("s", (5,), share) for share in shares], batch_size=4, steps=4, seed=0)


@settings(deadline=None)
@given(new=st.integers(1, 5000), share=st.floats(0, 0.9), size=st.integers(1, 64), epochs=st.floats(0.1, 10))
def test_planned_steps_pass_over_the_new_rows_as_often_as_asked(new, share, size, epochs):
    steps = plan_steps(new, share, size, epochs, min_steps=1)
    fresh = size * (1 - share)
    assert steps * fresh >= epochs * new - 1e-3
    assert (steps - 1) * fresh < epochs * new or steps == 1
    assert plan_steps(new, share, size, epochs, min_steps=10_000_000) == 10_000_000


def test_planned_steps_of_round_numbers_are_not_one_too_many():
    assert plan_steps(300, 0.25, 16, 1, 1) == 25
    assert plan_steps(240, 0.2, 16, 2, 1) == math.ceil(480 / 12.8)
    with pytest.raises(InputError):
        plan_steps(10, 1.0, 16, 1, 1)


@settings(max_examples=200, deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(0, 9), st.floats(0.05, 5)), min_size=1, max_size=5),
    share=st.floats(0.1, 0.9),
    steps=st.integers(1, 30),
)
def test_groups_are_drawn_by_their_weights_within_one_slot_in_every_prefix(groups, share, steps):
    sizes, weights = tuple(size for size, _ in groups), tuple(weight for _, weight in groups)
    slots = schedule(50, [Stream("s", sizes, share, weights)], batch_size=8, steps=steps, seed=0)
    edges = [sum(sizes[:g]) for g in range(len(sizes) + 1)]
    total = sum(weight for size, weight in groups if size)
    running, used = Counter(), Counter()
    drawn = [row for source, row in slots if source == 1]
    for done, row in enumerate(drawn, 1):
        used[row] += 1
        running[next(g for g in range(len(sizes)) if edges[g] <= row < edges[g + 1])] += 1
        assert all(abs(running[g] - done * weights[g] / total) < 1 + 1e-3 for g in range(len(sizes)) if sizes[g])
    for a, b in pairwise(edges):  # inside a group nothing is drawn again before all were
        assert b == a or max(used[row] for row in range(a, b)) - min(used[row] for row in range(a, b)) <= 1


def test_equal_weights_are_no_weights():
    plain, equal = (Stream("s", (5, 9, 2), 0.4, weights) for weights in ((), (0.2, 0.2, 0.2)))
    assert schedule(30, [plain], batch_size=8, steps=9, seed=3) == schedule(30, [equal], batch_size=8, steps=9, seed=3)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    ratio=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    steps=st.integers(1, 20),
)
def test_new_rows_of_several_datasets_hold_their_ratio_and_every_row_comes_before_one_comes_again(sizes, ratio, steps):
    weights = tuple(float(part) for part in ratio[: len(sizes)])
    fresh = Fresh(tuple(sizes), weights)
    slots = schedule(fresh, [Stream("r", (7,), 0.25)], batch_size=8, steps=steps, seed=1, max_repeats=1000)
    rows = [row for source, row in slots if source == 0]
    edges = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
    for k, (a, b) in enumerate(pairwise(edges)):
        own = [row for row in rows if a <= row < b]
        assert abs(len(own) - len(rows) * weights[k] / sum(weights)) < 1 + 1e-3
        passes = [own[n : n + b - a] for n in range(0, len(own) - (b - a) + 1, b - a)]
        assert all(sorted(one) == list(range(a, b)) for one in passes)
        assert b - a < 6 or len(passes) < 2 or passes[0] != passes[1], "each pass is shuffled anew"


def test_an_ordered_first_pass_and_shuffled_later_ones():
    slots = schedule(Fresh((40,), ordered=True), [Stream("r", (9,), 0.2)], batch_size=10, steps=20, seed=0)
    rows = [row for source, row in slots if source == 0]
    assert rows[:40] == list(range(40))
    assert sorted(rows[40:80]) == list(range(40))
    assert rows[40:80] != list(range(40))


def test_datasets_in_turn_and_what_is_mixed_in_goes_on_from_part_to_part():
    mix = [Stream("replay", (50, 50), 0.25)]
    parts = schedule_in_turn([30, 60, 30], mix, batch_size=8, steps=[5, 10, 5], seed=0)
    assert [len(part) for part in parts] == [40, 80, 40]
    for part, (a, b) in zip(parts, [(0, 30), (30, 90), (90, 120)], strict=True):
        rows = [row for source, row in part if source == 0]
        assert sorted(rows) == list(range(a, b))
        assert rows != sorted(rows)
    replayed = [row for part in parts for source, row in part if source == 1]
    assert len(replayed) == len(set(replayed)) == 40, "no row is replayed again before all were"
    with pytest.raises(InputError):
        schedule_in_turn([3], [Stream("r", (3,), 1.0)], batch_size=2, steps=[2], seed=0)

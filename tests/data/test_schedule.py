import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.data.schedule import Stream, plan_steps, schedule

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

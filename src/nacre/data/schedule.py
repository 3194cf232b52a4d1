"""Which row goes into which slot of which batch: new rows and replayed ones in a true ratio."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from nacre.base.errors import InputError

MAX_REPEATS = 30  # of a new row, where nobody asked for so many passes
_FINE = 1_000_000  # to this part of the largest weight the ratio of groups is held


@dataclass(frozen=True)
class Stream:
    """Rows that are mixed into every batch.

    Attributes:
        name: for messages.
        groups: how many rows each past task has; rows are numbered through in this order.
        share: the part of each batch that this stream fills, from 0 to 1.
        weights: how often each group is drawn from beside the others; empty: all equally often.
    """

    name: str
    groups: tuple[int, ...]
    share: float
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Fresh:
    """The new rows, where they are not one heap that is shuffled anew for every pass.

    Attributes:
        groups: how many rows each dataset has; rows are numbered through in this order.
        weights: the ratio in which the datasets are drawn from; empty: all rows are one heap.
        ordered: the first pass takes the rows in the order in which they stand; later ones are shuffled.
    """

    groups: tuple[int, ...]
    weights: tuple[float, ...] = ()
    ordered: bool = False


def schedule(
    new: int | Fresh,
    streams: Sequence[Stream],
    *,
    batch_size: int,
    steps: int,
    seed: int,
    max_repeats: float = MAX_REPEATS,
    notes: list[str] | None = None,
) -> list[tuple[int, int]]:
    """Fill ``steps * batch_size`` slots with (source, row): source 0 is the new rows, k is ``streams[k - 1]``.

    Over the whole schedule each source has its share to the slot, and within every prefix to less than one
    slot (earliest deadline first over unit tasks: Baruah et al. 1996, "Proportionate progress"). The same holds
    for the groups of a source by their weights; inside a group no row is drawn again before all were. An empty
    stream leaves its share to the new rows; so tiny an increment that its rows would be repeated more than
    `max_repeats` times leaves slots to the streams in proportion, or without streams makes the schedule shorter;
    `notes` then says so.

    Raises:
        InputError: a share is not between 0 and 1, or the shares leave nothing for the new rows.
    """
    _check_shares(streams)
    fresh = new if isinstance(new, Fresh) else Fresh((new,))
    quotas = _quotas(sum(fresh.groups), streams, batch_size * steps, max_repeats, notes)
    return _fill(quotas, [_fresh_draws(fresh, f"{seed}/new"), *_stream_draws(streams, seed)])


def schedule_in_turn(
    parts: Sequence[int],
    streams: Sequence[Stream],
    *,
    batch_size: int,
    steps: Sequence[int],
    seed: int,
    max_repeats: Sequence[float] = (),
    notes: list[str] | None = None,
) -> list[list[tuple[int, int]]]:
    """A schedule for each dataset in turn: `parts` says how many new rows each has, `steps` how long it lasts,
    `max_repeats` how often a row of each may come.

    Rows are numbered through over the parts; what is mixed in goes on from part to part. See `schedule`.
    """
    _check_shares(streams)
    mixed_in = _stream_draws(streams, seed)
    found = []
    repeats = max_repeats or [MAX_REPEATS] * len(parts)
    for place, (rows, length, most) in enumerate(zip(parts, steps, repeats, strict=True)):
        quotas = _quotas(rows, streams, batch_size * length, most, notes)
        own = _passes(sum(parts[:place]), rows, f"{seed}/new/{place}")
        found.append(_fill(quotas, [own, *mixed_in]))
    return found


def apportion(shares: Sequence[float], slots: int) -> list[int]:
    """Split `slots` in proportion to `shares` by the largest remainder: whole numbers that add up."""
    exact = [slots * share / sum(shares) for share in shares]
    whole = [math.floor(part + 1e-9) for part in exact]
    order = sorted(range(len(shares)), key=lambda k: (whole[k] - exact[k], k))
    for k in order[: slots - sum(whole)]:
        whole[k] += 1
    return whole


def plan_steps(new: int, share_total: float, batch_size: int, epochs: float, min_steps: int) -> int:
    """Optimizer steps for `epochs` passes over the new rows, when `share_total` of each batch is replayed.

    Raises:
        InputError: the streams' shares leave nothing for the new rows.
    """
    if not 0 <= share_total < 1:
        raise _too_much(share_total)
    return max(min_steps, math.ceil(epochs * new / (batch_size * (1 - share_total)) - 1e-9))


def _check_shares(streams: Sequence[Stream]) -> None:
    for stream in streams:
        if not 0 <= stream.share <= 1:
            raise InputError(f"the share {stream.share} is none", where=f"stream {stream.name}", fix="give 0 to 1")
    if sum(stream.share for stream in streams) >= 1:
        raise _too_much(sum(stream.share for stream in streams))


def _too_much(share: float) -> InputError:
    where = "the shares of replayed rows"
    return InputError(f"they sum up to {share:g}, which leaves no place for new rows", where=where, fix="stay below 1")


def _quotas(
    new: int, streams: Sequence[Stream], slots: int, max_repeats: float, notes: list[str] | None = None
) -> list[int]:
    """How many slots of the whole schedule each source gets; whole numbers that add up."""
    shares = [stream.share if sum(stream.groups) else 0.0 for stream in streams]
    due = apportion([1 - sum(shares), *shares], slots)[0]
    fresh = min(due, int(min(new * max_repeats, slots))) if new else 0
    if notes is not None and 0 < fresh < due:
        others = "what is mixed in fills the others" if any(shares) else "the run is shorter"
        notes.append(
            f"{new} new rows are repeated at most {max_repeats:g} times to make the run longer: they fill {fresh:,} "
            f"places of {slots:,}, and {others}"
        )
    return [fresh, *(apportion(shares, slots - fresh) if any(shares) else [0] * len(shares))]


def _fill(quotas: Sequence[int], draws: Sequence[Iterator[int]]) -> list[tuple[int, int]]:
    """(source, row) for every slot; a source that has no quota is never asked."""
    return [(source, next(draws[source])) for source in islice(in_proportion(quotas), sum(quotas))]


def in_proportion(parts: Sequence[int]) -> Iterator[int]:
    """Places 0 … without end, or until `parts` are used up to the last one, each as often as its part says.

    One may take its next slot once its due share has passed what it has; the most urgent one goes first.
    """
    total, used = sum(parts), [0] * len(parts)
    for slot in count(1):
        ready = [k for k, part in enumerate(parts) if used[k] * total < part * slot]
        chosen = min(ready, key=lambda k: -(-(used[k] + 1) * total // parts[k]))
        used[chosen] += 1
        yield chosen


def _stream_draws(streams: Sequence[Stream], seed: int) -> list[Iterator[int]]:
    return [_draws(s.groups, f"{seed}/{k}/{s.name}", s.weights) for k, s in enumerate(streams)]


def _fresh_draws(fresh: Fresh, seed: str) -> Iterator[int]:
    if fresh.weights:
        return _draws(fresh.groups, seed, fresh.weights, ordered=fresh.ordered)
    return _draws((sum(fresh.groups),), seed, ordered=fresh.ordered)


def _draws(groups: Sequence[int], seed: str, weights: Sequence[float] = (), *, ordered: bool = False) -> Iterator[int]:
    """Row numbers without end: the groups in proportion to their weights, each shuffled anew for every pass."""
    starts = [sum(groups[:k]) for k in range(len(groups))]
    weights = weights or [1.0] * len(groups)
    filled = [k for k, size in enumerate(groups) if size and weights[k] > 0]
    if not filled:
        return
    passes = [_passes(starts[k], groups[k], f"{seed}/{k}", ordered=ordered) for k in filled]
    most = max(weights[k] for k in filled)
    # whole numbers, so that no rounding adds up over a long run; equal weights give each group in turn
    for chosen in in_proportion([max(1, round(weights[k] / most * _FINE)) for k in filled]):
        yield next(passes[chosen])


def _passes(start: int, size: int, seed: str, *, ordered: bool = False) -> Iterator[int]:
    """All rows again and again, in another order each time; with `ordered` the first time as they stand."""
    chance = random.Random(seed)
    rows = list(range(start, start + size))
    if ordered:
        yield from rows
    while True:
        chance.shuffle(rows)
        yield from rows

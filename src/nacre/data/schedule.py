"""Which row goes into which slot of which batch: new rows and replayed ones in a true ratio."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nacre.base.errors import InputError


@dataclass(frozen=True)
class Stream:
    """Rows that are mixed into every batch.

    Attributes:
        name: for messages.
        groups: how many rows each past task has; rows are numbered through in this order.
        share: the part of each batch that this stream fills, from 0 to 1.
    """

    name: str
    groups: tuple[int, ...]
    share: float


def schedule(
    new: int, streams: Sequence[Stream], *, batch_size: int, steps: int, seed: int, max_repeats: float = 30
) -> list[tuple[int, int]]:
    """Fill ``steps * batch_size`` slots with (source, row): source 0 is the new rows, k is ``streams[k - 1]``.

    Over the whole schedule each source has its share to the slot, and within every prefix to less than one
    slot (earliest deadline first over unit tasks: Baruah et al. 1996, "Proportionate progress"). A stream
    draws evenly over its groups, without replacement inside one until all its rows were drawn. An empty
    stream leaves its share to the new rows; so tiny an increment that its rows would be repeated more than
    `max_repeats` times leaves slots to the streams in proportion, or without streams makes the schedule shorter.

    Raises:
        InputError: a share is not between 0 and 1, or the shares leave nothing for the new rows.
    """
    _check_shares(streams)
    quotas = _quotas(new, streams, batch_size * steps, max_repeats)
    total = sum(quotas)
    draws = [_draws((new,), f"{seed}/new"), *(_draws(s.groups, f"{seed}/{k}/{s.name}") for k, s in enumerate(streams))]
    used = [0] * len(quotas)
    slots = []
    for slot in range(total):
        # A source may take its next slot once its due share has passed what it has; the most urgent one goes first.
        ready = [k for k, quota in enumerate(quotas) if used[k] * total < quota * (slot + 1)]
        source = min(ready, key=lambda k: -(-(used[k] + 1) * total // quotas[k]))
        used[source] += 1
        slots.append((source, next(draws[source])))
    return slots


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


def _quotas(new: int, streams: Sequence[Stream], slots: int, max_repeats: float) -> list[int]:
    """How many slots of the whole schedule each source gets; whole numbers that add up."""
    shares = [stream.share if sum(stream.groups) else 0.0 for stream in streams]
    if not any(shares):
        return [min(slots, int(new * max_repeats)), *(0 for _ in shares)]
    limit = int(new * max_repeats)
    fresh = min(_apportion([1 - sum(shares), *shares], slots)[0], limit)
    return [fresh, *_apportion(shares, slots - fresh)]


def _apportion(shares: Sequence[float], slots: int) -> list[int]:
    """Split `slots` in proportion to `shares` by the largest remainder."""
    exact = [slots * share / sum(shares) for share in shares]
    whole = [math.floor(part + 1e-9) for part in exact]
    order = sorted(range(len(shares)), key=lambda k: (whole[k] - exact[k], k))
    for k in order[: slots - sum(whole)]:
        whole[k] += 1
    return whole


def _draws(groups: Sequence[int], seed: str) -> Iterator[int]:
    """Row numbers without end: one of each group in turn, each group shuffled anew for every pass."""
    starts = [sum(groups[:k]) for k in range(len(groups))]
    passes = [
        _passes(start, size, f"{seed}/{k}") for k, (start, size) in enumerate(zip(starts, groups, strict=True)) if size
    ]
    while True:
        for rows in passes:
            yield next(rows)


def _passes(start: int, size: int, seed: str) -> Iterator[int]:
    chance = random.Random(seed)
    rows = list(range(start, start + size))
    while True:
        chance.shuffle(rows)
        yield from rows

"""Where keys and values lie: rows of like length side by side, so that one call attends them all and little is wasted.

A row lies in the pool of the smallest capacity it fits, left-aligned in a slot of its own; when it outgrows that it
moves to the next pool, which holds twice as much, as a growing vector does. So at most half of what is attended is
padding, a row that joins or leaves copies at most itself, and the used slots of a pool are always the first ones:
attention takes them as a view.

Shapes: S slots, H heads of keys and values, C capacity in tokens, D size of a head, T tokens.
"""

from dataclasses import dataclass, field

import torch

_SMALLEST = 64


@dataclass(eq=False)
class Seat:
    """The place of one row."""

    pool: "Pool"
    slot: int


@dataclass(eq=False)
class Pool:
    """Slots of one capacity. The tensors of a layer are made when it first writes."""

    capacity: int
    slots: int = 0
    seats: list[Seat] = field(default_factory=list)
    keys_SHCD: dict[int, torch.Tensor] = field(default_factory=dict)
    values_SHCD: dict[int, torch.Tensor] = field(default_factory=dict)

    def layer(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all slots; `key` and `value` [1, H, T, D] say how large a head is.

        Zeros at first: what is masked away is multiplied by 0, which would keep a leftover NaN.
        """
        if layer not in self.keys_SHCD:
            for held, like in ((self.keys_SHCD, key), (self.values_SHCD, value)):
                held[layer] = like.new_zeros(self.slots, like.shape[1], self.capacity, like.shape[3])
        return self.keys_SHCD[layer], self.values_SHCD[layer]

    def resize(self, slots: int) -> None:
        """Hold this many slots; those in use stay."""
        used = len(self.seats)
        for held in (self.keys_SHCD, self.values_SHCD):
            for layer, old in list(held.items()):
                held[layer] = old.new_zeros(slots, *old.shape[1:])
                held[layer][:used] = old[:used]
        if not slots:
            self.keys_SHCD.clear()
            self.values_SHCD.clear()
        self.slots = slots


class Pools:
    """All pools of one model.

    Args:
        most_tokens: how many tokens all slots together may have room for.
        longest: the longest row there will be, in tokens.
    """

    def __init__(self, most_tokens: int, longest: int) -> None:
        self._most, self._longest = most_tokens, longest
        self._pools: dict[int, Pool] = {}

    @property
    def tokens(self) -> int:
        """Tokens there is memory for now."""
        return sum(pool.slots * pool.capacity for pool in self._pools.values())

    def room(self, rows: int) -> int:
        """Capacity of the largest slots that there is memory for so many of at a time; 0 where for none."""
        if rows * self._longest <= self._most:
            return self._longest
        found, capacity = 0, _SMALLEST
        while capacity < self._longest and rows * capacity <= self._most:
            found, capacity = capacity, 2 * capacity
        return found

    def take(self, tokens: int) -> Seat | None:
        """A seat for a row of so many tokens; None while the memory is used up."""
        pool = self._pool(tokens)
        if len(pool.seats) == pool.slots and not self._enlarge(pool):
            return None
        seat = Seat(pool, len(pool.seats))
        pool.seats.append(seat)
        return seat

    def grow(self, seat: Seat, tokens: int) -> bool:
        """Room for so many tokens in all; False while the memory is used up."""
        if tokens <= seat.pool.capacity:
            return True
        new = self.take(tokens)
        if new is None:
            return False
        old = Seat(seat.pool, seat.slot)
        for layer, keys_SHCD in old.pool.keys_SHCD.items():
            values_SHCD = old.pool.values_SHCD[layer]
            to_keys, to_values = new.pool.layer(layer, keys_SHCD[:1], values_SHCD[:1])
            to_keys[new.slot, :, : old.pool.capacity] = keys_SHCD[old.slot]
            to_values[new.slot, :, : old.pool.capacity] = values_SHCD[old.slot]
        self._leave(seat)
        seat.pool, seat.slot = new.pool, new.slot
        new.pool.seats[new.slot] = seat
        return True

    def free(self, seat: Seat, *, spoilt: bool = False) -> None:
        """Give a seat back; what a `spoilt` row has left is overwritten."""
        if spoilt:
            for held in (seat.pool.keys_SHCD, seat.pool.values_SHCD):
                for tensor_SHCD in held.values():
                    tensor_SHCD[seat.slot] = 0
        self._leave(seat)

    def _leave(self, seat: Seat) -> None:
        """The last row of the pool takes the empty slot."""
        pool = seat.pool
        last = pool.seats.pop()
        if last is not seat:
            for held in (pool.keys_SHCD, pool.values_SHCD):
                for tensor_SHCD in held.values():
                    # both: the slot that falls free must not hold a NaN where the row that leaves had one
                    tensor_SHCD[seat.slot] = tensor_SHCD[last.slot]
            last.slot = seat.slot
            pool.seats[seat.slot] = last
        if not pool.seats:
            pool.resize(0)

    def _pool(self, tokens: int) -> Pool:
        capacity = _SMALLEST
        while capacity < tokens:
            capacity *= 2
        capacity = min(capacity, max(self._longest, tokens))
        return self._pools.setdefault(capacity, Pool(capacity))

    def _enlarge(self, pool: Pool) -> bool:
        """More slots: twice as many where there is room, one at least."""
        if self.tokens + pool.capacity > self._most:
            for other in self._pools.values():
                if other.slots > len(other.seats):
                    other.resize(len(other.seats))
        room = (self._most - self.tokens) // pool.capacity
        more = min(max(pool.slots, 1), room)
        if more < 1:
            return False
        pool.resize(pool.slots + more)
        return True

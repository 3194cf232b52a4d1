"""Rows that several adapters read together: a piece for each of them in the same pass, and one word on what follows.

A member's keys and values are its own, so a row takes as many seats as it has members; whoever runs rows sees one
seat, one piece and one row of logits. Rows of single adapters stand beside them in the same step.

Shapes: P positions whose logits are asked for, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from nacre.base.errors import InputError
from nacre.model.ensemble import mixture
from nacre.serve.engines.embedded.pools import Pools, Seat
from nacre.serve.engines.embedded.runners import BARE, Packed, Piece, Read


@dataclass(frozen=True)
class Mixture:
    """Who reads together: names in the bank, and the weights of what they expect."""

    names: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(eq=False)
class Seats:
    """The places of one row, a seat for each member."""

    parts: tuple[Seat, ...]


class Mixing:
    """A runner for which some adapters are mixtures of others."""

    whole_prompts = False

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._mixtures: dict[str, Mixture] = {}

    @property
    def pools(self) -> Pools:
        """Where keys and values lie."""
        return self._packed.pools

    def put(self, name: str, mixed: Mixture) -> None:
        """Let rows be read by a mixture, by this name.

        Raises:
            InputError: the memory for keys and values has no room for even one row of it.
        """
        if self.longest(len(mixed.names)) < 1:
            what = f"the memory for keys and values has no room for one row of {len(mixed.names)} members"
            raise InputError(what, where="serve.embedded.kv_tokens", fix="raise it")
        self._mixtures[name] = mixed

    def drop(self, name: str) -> None:
        """Forget a mixture; harmless where there is none of that name."""
        self._mixtures.pop(name, None)

    def longest(self, members: int) -> int:
        """Tokens of the longest row that so many members can have in memory at once."""
        return self.pools.room(members) - 1

    def take(self, tokens: int, adapter: str = BARE) -> Seat | Seats | None:
        """See `Runner`."""
        mixed = self._mixtures.get(adapter)
        if mixed is None:
            return self._packed.take(tokens)
        taken: list[Seat] = []
        for _ in mixed.names:
            seat = self._packed.take(tokens)
            if seat is None:
                self.free(Seats(tuple(taken)))
                return None
            taken.append(seat)
        return Seats(tuple(taken))

    def grow(self, seat: Seat | Seats, tokens: int) -> bool:
        """See `Runner`."""
        return all(self._packed.grow(part, tokens) for part in _parts(seat))

    def free(self, seat: Seat | Seats, *, spoilt: bool = False) -> None:
        """See `Runner`."""
        for part in _parts(seat):
            self._packed.free(part, spoilt=spoilt)

    def run(self, pieces: Sequence[Piece]) -> list[Read]:
        """See `Runner`. What is told of hidden states is the first member's."""
        every = [part for piece in pieces for part in self._taken_apart(piece)]
        found = iter(self._packed.run(every))
        return [self._put_together(piece, found) for piece in pieces]

    def _taken_apart(self, piece: Piece) -> list[Piece]:
        mixed = self._mixtures.get(piece.adapter)
        if mixed is None:
            return [piece]
        seats = zip(piece.seat.parts, mixed.names, strict=True)
        return [replace(piece, seat=seat, adapter=name) for seat, name in seats]

    def _put_together(self, piece: Piece, found: Iterator[Read]) -> Read:
        mixed = self._mixtures.get(piece.adapter)
        if mixed is None:
            return next(found)
        reads = [next(found) for _ in mixed.names]
        logits = [read.logits_PV for read in reads if read.logits_PV is not None]
        mixed_PV = mixture(torch.stack(logits), mixed.weights) if logits else None
        return Read(mixed_PV, reads[0].hidden_D)


def _parts(seat: Seat | Seats) -> tuple[Seat, ...]:
    return seat.parts if isinstance(seat, Seats) else (seat,)

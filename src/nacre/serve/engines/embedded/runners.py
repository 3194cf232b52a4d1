"""One forward pass over pieces of several rows. Two ways to do it, which say the same.

`Packed` reads all pieces in one pass, prompts beside answers, each row through its own adapter. `Plain` is for models
whose attention cannot be taken over (`probe` finds out): a pass and a cache of transformers' own for each row.

Shapes: N tokens of the step, P positions whose logits are asked for, V vocabulary, D hidden size.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from transformers import DynamicCache

from nacre.serve.engines.embedded.attention import Answering, Reading, Step
from nacre.serve.engines.embedded.lora import Bank
from nacre.serve.engines.embedded.pools import Pools, Seat

Wanted = Literal["none", "last", "all"]

BARE = ""  # the adapter of rows that are answered without one


@dataclass(eq=False)
class PlainSeat:
    """The place of one row that has a cache of its own."""

    cache: DynamicCache
    tokens: int = 0


@dataclass(eq=False)
class Piece:
    """Tokens of one row that are read next, `start` of it having been read.

    Attributes:
        adapter: by whom, a name in the bank.
        logits: of which positions.
        hidden: whether the sum of their last hidden states is wanted.
    """

    seat: Any
    ids: Sequence[int]
    start: int
    adapter: str = BARE
    logits: Wanted = "last"
    hidden: bool = False


@dataclass(eq=False)
class Read:
    """What came of a piece: logits [P, V] on the model's device, the summed hidden states [D] in float32."""

    logits_PV: torch.Tensor | None
    hidden_D: torch.Tensor | None


class Runner(Protocol):
    """How a model reads, and where its rows lie."""

    def take(self, tokens: int, adapter: str = BARE) -> Any:
        """A seat for a row of so many tokens that this adapter reads, or None."""

    def grow(self, seat: Any, tokens: int) -> bool:
        """Room for so many tokens in all."""

    def free(self, seat: Any, *, spoilt: bool = False) -> None:
        """Give it back."""

    def run(self, pieces: Sequence[Piece]) -> list[Read]:
        """Read the pieces."""

    @property
    def whole_prompts(self) -> bool:
        """Whether prompts must be read in one piece."""


class _Watched:
    """The last hidden states of the decoder's last call."""

    def __init__(self, causal: Any) -> None:
        self.hidden_BTD: torch.Tensor | None = None
        causal.get_decoder().register_forward_hook(self._keep)

    def _keep(self, decoder: Any, args: Any, output: Any) -> None:
        self.hidden_BTD = output.last_hidden_state

    def summed(self, start: int, end: int) -> torch.Tensor:
        assert self.hidden_BTD is not None
        return self.hidden_BTD[0, start:end].float().sum(0)


class Packed:
    """All pieces in one pass, see `attention`. The model's attention must be `attention.NAME`."""

    whole_prompts = False

    def __init__(self, model: Any, bank: Bank, pools: Pools) -> None:
        self.pools = pools
        self.windows = 0  # layers that attended to a sliding window in the last pass
        self._model, self._bank = model, bank
        self._watched = _Watched(plain_model(model))

    def take(self, tokens: int, adapter: str = BARE) -> Seat | None:
        """See `Runner`."""
        return self.pools.take(tokens)

    def grow(self, seat: Seat, tokens: int) -> bool:
        """See `Runner`."""
        return self.pools.grow(seat, tokens)

    def free(self, seat: Seat, *, spoilt: bool = False) -> None:
        """See `Runner`."""
        self.pools.free(seat, spoilt=spoilt)

    def run(self, pieces: Sequence[Piece]) -> list[Read]:
        """See `Runner`. The pieces' places must be grown already."""
        order = sorted(range(len(pieces)), key=lambda place: _sorted_by(pieces[place]))
        starts, wanted = self._laid_out([pieces[place] for place in order])
        ids = [token for place in order for token in pieces[place].ids]
        positions = [pieces[place].start + step for place in order for step in range(len(pieces[place].ids))]
        device = self._model.device
        step = _step([pieces[place] for place in order], starts, device)
        try:
            output = self._model(
                input_ids=torch.tensor([ids], device=device),
                position_ids=torch.tensor([positions], device=device),
                attention_mask=None,
                past_key_values=None,
                use_cache=False,
                logits_to_keep=torch.tensor(wanted or [0], device=device),
                nacre_step=step,
            )
            return self._taken_apart(pieces, order, starts, output.logits[0])
        finally:
            self.windows = step.windows
            self._bank.stretches = []
            self._watched.hidden_BTD = None

    def _laid_out(self, pieces: list[Piece]) -> tuple[list[int], list[int]]:
        """Where each piece begins, and the places whose logits are wanted; tells the bank who is whose."""
        starts: list[int] = []
        wanted: list[int] = []
        stretches: list[tuple[int, int, str]] = []
        total = 0
        for piece in pieces:
            starts.append(total)
            end = total + len(piece.ids)
            if stretches and stretches[-1][2] == piece.adapter:
                stretches[-1] = (stretches[-1][0], end, piece.adapter)
            else:
                stretches.append((total, end, piece.adapter))
            wanted += {"none": [], "last": [end - 1], "all": list(range(total, end))}[piece.logits]
            total = end
        self._bank.stretches = [stretch for stretch in stretches if stretch[2] != BARE]
        return starts, wanted

    def _taken_apart(
        self, pieces: Sequence[Piece], order: list[int], starts: list[int], logits_PV: torch.Tensor
    ) -> list[Read]:
        reads: dict[int, Read] = {}
        done = 0
        for place, start in zip(order, starts, strict=True):
            piece = pieces[place]
            count = {"none": 0, "last": 1, "all": len(piece.ids)}[piece.logits]
            hidden_D = self._watched.summed(start, start + len(piece.ids)) if piece.hidden else None
            reads[place] = Read(logits_PV[done : done + count] if count else None, hidden_D)
            done += count
        return [reads[place] for place in range(len(pieces))]


def _sorted_by(piece: Piece) -> tuple[str, bool, int, int]:
    """Adapters together; within them, rows that are answered in the order in which they lie, then prompts."""
    reads = len(piece.ids) > 1 or piece.start == 0
    return piece.adapter, reads, piece.seat.pool.capacity, piece.seat.slot


def _step(pieces: Sequence[Piece], starts: Sequence[int], device: torch.device) -> Step:
    answering: dict[int, Answering] = {}
    reading: list[Reading] = []
    for piece, start in zip(pieces, starts, strict=True):
        if len(piece.ids) > 1 or piece.start == 0:
            reading.append(Reading(piece.seat, start, len(piece.ids), piece.start))
            continue
        rows = answering.setdefault(piece.seat.pool.capacity, Answering(piece.seat.pool, [], [], []))
        rows.tokens.append(start)
        rows.slots.append(piece.seat.slot)
        rows.positions.append(piece.start)
    for rows in answering.values():
        rows.place(device)
    return Step(list(answering.values()), reading)


class Plain:
    """One pass for each piece, over a cache of transformers' own.

    Args:
        whole_prompts: the model must see a prompt at once, as one that routes by itself does.
    """

    def __init__(self, model: Any, most_tokens: int, *, whole_prompts: bool = False) -> None:
        self.whole_prompts = whole_prompts
        self._model = model
        self._left = most_tokens
        causal = plain_model(model)
        self._watched = _Watched(causal)
        # Logits of the last position only: those of a long prompt would take gigabytes.
        self._keeps = "logits_to_keep" in inspect.signature(causal.forward).parameters

    def take(self, tokens: int, adapter: str = BARE) -> PlainSeat | None:
        """See `Runner`."""
        seat = PlainSeat(DynamicCache(config=self._model.config))
        return seat if self.grow(seat, tokens) else None

    def grow(self, seat: PlainSeat, tokens: int) -> bool:
        """See `Runner`."""
        more = max(tokens - seat.tokens, 0)
        if more > self._left:
            return False
        self._left -= more
        seat.tokens += more
        return True

    def free(self, seat: PlainSeat, *, spoilt: bool = False) -> None:
        """See `Runner`."""
        self._left += seat.tokens

    def run(self, pieces: Sequence[Piece]) -> list[Read]:
        """See `Runner`."""
        return [self._read(piece) for piece in pieces]

    def _read(self, piece: Piece) -> Read:
        options = {"logits_to_keep": 1} if self._keeps and piece.logits != "all" else {}
        ids_BT = torch.tensor([list(piece.ids)], device=self._model.device)
        output = self._model(input_ids=ids_BT, past_key_values=piece.seat.cache, use_cache=True, **options)
        logits_TV = output.logits[0]
        kept = {"none": None, "last": logits_TV[-1:], "all": logits_TV}[piece.logits]
        hidden_D = self._watched.summed(0, len(piece.ids)) if piece.hidden else None
        self._watched.hidden_BTD = None
        return Read(kept, hidden_D)


def plain_model(model: Any) -> Any:
    """The model under its adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model

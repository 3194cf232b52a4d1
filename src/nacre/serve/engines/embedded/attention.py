"""Attention over rows of different lengths in one pass, without padding between them.

The tokens of a step stand one behind the other, ``[1, N, D]``: one of each row that is answered, and pieces of the
prompts that are being read. Everything but attention works on single tokens and sees no rows. Attention, which comes
here through transformers' interface for it, writes each token's key and value to its row's seat (`pools`) and looks
at that row alone.

Shapes: N tokens of the step, Q query heads, H heads of keys and values, G = Q/H, D size of a head, S used slots of a
pool, C positions attended, T tokens of a piece of a prompt.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from nacre.serve.engines.embedded.pools import Pool, Seat

NAME = "nacre_rows"
_UNKNOWN = ("softcap", "s_aux", "position_bias")  # what some models ask of their attention and this one does not do


class Unfit(Exception):
    """The model asks for something that this attention does not know."""


@dataclass(eq=False)
class Answering:
    """The rows of one pool that get one token each.

    Attributes:
        tokens: where their tokens stand in the step.
        slots, positions: where these tokens go.
    """

    pool: Pool
    tokens: list[int]
    slots: list[int]
    positions: list[int]

    def place(self, device: torch.device) -> None:
        """Bring what every layer needs to the device, once a step."""
        self.used, self.width = len(self.pool.seats), max(self.positions) + 1
        count = len(self.tokens)
        self.whole = self.slots == list(range(self.used))
        first = self.tokens[0]
        run = self.tokens == list(range(first, first + count))
        self.place_in_step = slice(first, first + count) if run else torch.tensor(self.tokens, device=device)
        self.slots_N = torch.tensor(self.slots, device=device)
        self.positions_N = torch.tensor(self.positions, device=device)
        self._masks: dict[int | None, torch.Tensor | None] = {}

    def mask(self, window: int | None, like: torch.Tensor) -> torch.Tensor | None:
        """[S, 1, 1, C], to be added; None where every row sees all positions."""
        if window not in self._masks:
            positions = [0] * self.used  # slots whose rows read their prompt: what they attend is thrown away
            for slot, position in zip(self.slots, self.positions, strict=True):
                positions[slot] = position
            at_S1 = torch.tensor(positions, device=like.device)[:, None]
            columns_C = torch.arange(self.width, device=like.device)
            hidden_SC = columns_C > at_S1
            if window is not None:
                hidden_SC |= columns_C <= at_S1 - window
            mask_SC = like.new_zeros(self.used, self.width).masked_fill(hidden_SC, -torch.inf)
            self._masks[window] = mask_SC[:, None, None] if bool(hidden_SC.any()) else None
        return self._masks[window]


@dataclass(eq=False)
class Reading:
    """A piece of a prompt: `count` tokens from place `token` of the step, which go to `start` and on."""

    seat: Seat
    token: int
    count: int
    start: int
    _masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, like: torch.Tensor) -> torch.Tensor | None:
        """[T, C], to be added; None where plain causal attention does."""
        end = self.start + self.count
        if self.start == 0 and (window is None or window >= end):
            return None
        if window not in self._masks:
            at_T1 = torch.arange(self.start, end, device=like.device)[:, None]
            columns_C = torch.arange(end, device=like.device)
            hidden_TC = columns_C > at_T1
            if window is not None:
                hidden_TC |= columns_C <= at_T1 - window
            self._masks[window] = like.new_zeros(hidden_TC.shape).masked_fill(hidden_TC, -torch.inf)
        return self._masks[window]


@dataclass(eq=False)
class Step:
    """What one forward pass is about; `windows` counts the layers that attended to a sliding window."""

    answering: list[Answering]
    reading: list[Reading]
    windows: int = 0


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    nacre_step: Step | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: ``[1, Q, N, D]`` and ``[1, H, N, D]`` in, ``[1, N, Q, D]`` out.

    Raises:
        Unfit: the model asks for something that this attention does not know.
    """
    asked = [name for name in _UNKNOWN if options.get(name) is not None]
    if nacre_step is None or asked or query.shape[0] != 1 or attention_mask is not None:
        raise Unfit(f"attention of rows: {', '.join(asked) or 'called without rows'}")
    nacre_step.windows += sliding_window is not None
    how = (query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window)
    said: list[tuple[slice | torch.Tensor, torch.Tensor]] = []
    for rows in nacre_step.answering:
        held = rows.pool.layer(module.layer_idx, key, value)
        said.append((rows.place_in_step, _answer(rows, (query, key, value), held, how)))
    for piece in nacre_step.reading:
        held = piece.seat.pool.layer(module.layer_idx, key, value)
        place = slice(piece.token, piece.token + piece.count)
        said.append((place, _read(piece, (query, key, value), held, how)))
    if len(said) == 1:  # all tokens, in their order
        return said[0][1][None], None
    out_NQD = query.new_empty(query.shape[2], query.shape[1], value.shape[-1])
    for where, part_NQD in said:
        out_NQD[where] = part_NQD
    return out_NQD[None], None


_Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_Two = tuple[torch.Tensor, torch.Tensor]
_How = tuple[float, int | None]


def _answer(rows: Answering, new: _Three, held: _Two, how: _How) -> torch.Tensor:
    query_NQD, key_NHD, value_NHD = (tensor[0].transpose(0, 1)[rows.place_in_step] for tensor in new)
    keys_SHCD, values_SHCD = held
    if len(rows.slots) == 1:  # written without index tensors, which cost more than the attention itself
        keys_SHCD[rows.slots[0], :, rows.positions[0]] = key_NHD[0]
        values_SHCD[rows.slots[0], :, rows.positions[0]] = value_NHD[0]
    else:
        keys_SHCD[rows.slots_N, :, rows.positions_N] = key_NHD
        values_SHCD[rows.slots_N, :, rows.positions_N] = value_NHD
    if not rows.whole:
        placed = query_NQD.new_zeros(rows.used, *query_NQD.shape[1:])
        placed[rows.slots_N] = query_NQD
        query_NQD = placed
    query_SHGD = query_NQD.reshape(rows.used, keys_SHCD.shape[1], -1, query_NQD.shape[-1])
    keys_SHCD, values_SHCD = keys_SHCD[: rows.used, :, : rows.width], values_SHCD[: rows.used, :, : rows.width]
    said_SHGD = _attended(query_SHGD, keys_SHCD, values_SHCD, rows.mask(how[1], query_SHGD), how[0])
    said_SQD = said_SHGD.reshape(rows.used, -1, values_SHCD.shape[-1])
    return said_SQD if rows.whole else said_SQD[rows.slots_N]


def _attended(
    query_SHGD: torch.Tensor,
    keys_SHCD: torch.Tensor,
    values_SHCD: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """For one token a row. A CPU's fused kernel is made for many: two products are two to three times as fast."""
    if query_SHGD.device.type != "cpu":
        return F.scaled_dot_product_attention(query_SHGD, keys_SHCD, values_SHCD, attn_mask=mask, scale=scale)
    scores_SHGC = torch.matmul(query_SHGD * scale, keys_SHCD.transpose(-1, -2))
    if mask is not None:
        scores_SHGC += mask
    return torch.matmul(scores_SHGC.softmax(-1), values_SHCD)


def _read(piece: Reading, new: _Three, held: _Two, how: _How) -> torch.Tensor:
    first, end = piece.token, piece.start + piece.count
    query_QTD, key_HTD, value_HTD = (tensor[0, :, first : first + piece.count] for tensor in new)
    keys_HCD, values_HCD = (tensor_SHCD[piece.seat.slot, :, :end] for tensor_SHCD in held)
    keys_HCD[:, piece.start :], values_HCD[:, piece.start :] = key_HTD, value_HTD
    groups = query_QTD.shape[0] // keys_HCD.shape[0]
    if groups > 1:
        keys_HCD, values_HCD = keys_HCD.repeat_interleave(groups, 0), values_HCD.repeat_interleave(groups, 0)
    mask_TC = piece.mask(how[1], query_QTD)
    said_1QTD = F.scaled_dot_product_attention(
        query_QTD[None],
        keys_HCD[None],
        values_HCD[None],
        attn_mask=mask_TC,
        is_causal=mask_TC is None,
        scale=how[0],
    )
    return said_1QTD[0].transpose(0, 1)


AttentionInterface.register(NAME, attend)

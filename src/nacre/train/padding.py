"""Less padding on a CPU: the rows of a micro-batch run through the decoder packed, or in groups of like length.

Packing (`nacre.train.packing`) is for models that bear it and are wide enough; groups are for the others. Replay
mixes long rows with short ones, and every row of a batch is padded to the longest: on four small tasks a third of all
computed positions were padding, half as much again as in plain training. The rows of a batch do not see each other, so
running them in groups and laying the results side by side is the same function, and the gradient is the same up to
rounding. On a GPU one large call is faster, so nothing is changed there.

Shapes: B rows, T tokens of the longest row, D hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch.nn import functional

from nacre.train.packing import packed, switched, why_not_packed

CALL_TOKENS = 128  # one more call of the decoder costs about as much as this many positions, on the smallest models


class Trunk(Protocol):
    """Layers that do not train, with what they said of rows, see `nacre.train.trunk`."""

    def run(self, spread: Any, whole: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, given: dict[str, Any]) -> Any:
        """What `spread` makes of `whole` for these rows."""


@contextmanager
def unpadded(model: Any, trunk: Trunk | None = None) -> Iterator[str]:
    """While the block runs, the decoder of `model` computes no padding, or less of it, for right-padded batches.

    Gives a sentence that says how. Backward passes must be inside the block too.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = causal.get_decoder()
    if "forward" in decoder.__dict__ or next(decoder.parameters()).device.type != "cpu":
        yield ""
        return
    reason = why_not_packed(decoder)
    whole = decoder.forward
    spread = grouped if reason else packed

    def forward(input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, **given: Any) -> Any:
        if input_ids is None or attention_mask is None or not _plainly_padded(attention_mask, given):
            return whole(input_ids=input_ids, attention_mask=attention_mask, **given)
        given = {name: value for name, value in given.items() if value is not None}
        if trunk is not None and decoder.training and torch.is_grad_enabled():
            return trunk.run(spread, whole, input_ids, attention_mask, given)
        return spread(whole, input_ids, attention_mask, **given)

    told = f"in groups of like length, because {reason}" if reason else "packed, each attending to itself"
    with nullcontext() if reason else switched(decoder):
        decoder.forward = forward
        try:
            yield f"the rows of a batch run {told}"
        finally:
            del decoder.forward


def grouped(
    whole: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, *, lower_BTD: torch.Tensor | None = None, **given: Any
) -> Any:
    """What `whole`, a decoder's forward, gives for right-padded rows, called for one group of like length at a time.

    `lower_BTD`, where it is given, is handed to `whole` in the groups' layout, as `lower`.
    """
    lengths_B = mask_BT.sum(1)
    order_B = lengths_B.argsort()
    cuts = cut_points(lengths_B[order_B].tolist())
    runs = [(order_B[a:b], int(lengths_B[order_B[b - 1]])) for a, b in cuts]
    if len(runs) < 2:
        lower = {} if lower_BTD is None else {"lower": lower_BTD}
        return whole(input_ids=ids_BT, attention_mask=mask_BT, **lower, **given)
    hidden_BTD: list[torch.Tensor] = []
    for rows_B, width in runs:
        lower = {} if lower_BTD is None else {"lower": lower_BTD[rows_B, :width]}
        part = whole(input_ids=ids_BT[rows_B, :width], attention_mask=mask_BT[rows_B, :width], **lower, **given)
        hidden_BTD.append(functional.pad(part.last_hidden_state, (0, 0, 0, ids_BT.shape[1] - width)))
    part.last_hidden_state = torch.cat(hidden_BTD)[torch.cat([rows_B for rows_B, _ in runs]).argsort()]
    return part


def _plainly_padded(attention_mask: torch.Tensor, given: dict[str, Any]) -> bool:
    """Whether these are rows of tokens, padded on the right, and nothing else is asked for."""
    if attention_mask.dim() != 2 or given.get("use_cache"):
        return False
    if any(given.get(name) is not None for name in ("past_key_values", "inputs_embeds", "position_ids")):
        return False
    if given.get("output_hidden_states") or given.get("output_attentions"):
        return False
    lengths_B = attention_mask.sum(1)
    last_BT = torch.arange(attention_mask.shape[1]) < lengths_B[:, None]
    return torch.equal(last_BT, attention_mask.bool())


def cut_points(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Split ascending `lengths` into runs so that positions computed, and `CALL_TOKENS` a run, are least."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(lengths) + 1):
        costs = [(best[start][0] + lengths[end - 1] * (end - start) + CALL_TOKENS, start) for start in range(end)]
        best.append(min(costs))
    runs: list[tuple[int, int]] = []
    end = len(lengths)
    while end:
        start = best[end][1]
        runs.append((start, end))
        end = start
    return runs[::-1]

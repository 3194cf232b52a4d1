"""Less padding on a CPU: rows of a micro-batch run through the decoder in groups of like length.

Replay mixes long rows with short ones, and every row of a batch is padded to the longest: on four small tasks a
third of all computed positions were padding, half as much again as in plain training. The rows of a batch do not
see each other, so running them in groups and laying the results side by side is the same function, and the
gradient is the same up to rounding. On a GPU one large call is faster, so nothing is changed there.

Shapes: B rows, T tokens of the longest row, D hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

CALL_TOKENS = 128  # one more call of the decoder costs about as much as this many positions, on the smallest models


@contextmanager
def grouped_by_length(model: Any) -> Iterator[None]:
    """While the block runs, the decoder of `model` works through right-padded batches in groups of like length."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = causal.get_decoder()
    if "forward" in decoder.__dict__ or next(decoder.parameters()).device.type != "cpu":
        yield
        return
    whole = decoder.forward

    def forward(input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None, **given: Any) -> Any:
        groups = _groups(input_ids, attention_mask, given)
        if len(groups) < 2:
            return whole(input_ids=input_ids, attention_mask=attention_mask, **given)
        hidden_BTD: list[torch.Tensor] = []
        assert input_ids is not None
        assert attention_mask is not None
        for rows_B, width in groups:
            part = whole(input_ids=input_ids[rows_B, :width], attention_mask=attention_mask[rows_B, :width], **given)
            hidden_BTD.append(functional.pad(part.last_hidden_state, (0, 0, 0, input_ids.shape[1] - width)))
        order_B = torch.cat([rows_B for rows_B, _ in groups]).argsort()
        part.last_hidden_state = torch.cat(hidden_BTD)[order_B]
        return part

    decoder.forward = forward
    try:
        yield
    finally:
        del decoder.forward


def _groups(
    input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, given: dict[str, Any]
) -> list[tuple[torch.Tensor, int]]:
    """(rows, their longest length) of each group; none where rows are not plainly padded on the right."""
    if input_ids is None or attention_mask is None or attention_mask.dim() != 2 or given.get("use_cache"):
        return []
    if any(given.get(name) is not None for name in ("past_key_values", "inputs_embeds", "position_ids")):
        return []
    lengths_B = attention_mask.sum(1)
    last_B = torch.arange(attention_mask.shape[1]) < lengths_B[:, None]
    if not torch.equal(last_B, attention_mask.bool()):
        return []
    order_B = lengths_B.argsort()
    cuts = cut_points(lengths_B[order_B].tolist())
    return [(order_B[a:b], int(lengths_B[order_B[b - 1]])) for a, b in cuts]


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

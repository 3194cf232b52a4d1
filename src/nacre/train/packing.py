"""No padding: the rows of a micro-batch run through the decoder as one row, and each attends to itself alone.

Linear layers see all real tokens of the batch in one product; attention is called once for each row, with positions
that begin anew. Whoever called the decoder gets its states back in the padded shape, so losses and protections are
none the wiser. The gradient is the same up to rounding.

What is needed: attention by transformers' `sdpa`, and a decoder that mixes positions in attention alone. The latter is
tried out on two short rows before it is relied on: a model of another kind is run in groups of like length
(`nacre.train.padding`), and so are small ones, where a call of attention for each row costs more than it saves.

Shapes: B rows, T tokens of the longest row, N real tokens of all rows, D hidden size, H heads, S size of a head.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "nacre_packed"
WIDE = 256  # hidden size from which one call of attention for each row costs less than the padding of groups
ROWS = (7, 4)  # tokens of the rows it is tried out on
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-6}  # of the largest state; in half precision `ROUGH`
ROUGH = 3e-2
MIXERS = (nn.Conv1d, nn.Conv2d, nn.RNNBase)  # modules that let positions see each other outside attention

_packing: ContextVar[bool] = ContextVar("packing", default=False)
_verdicts: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def _attention(
    module: Any,
    query_BHTS: torch.Tensor,
    key_BHTS: torch.Tensor,
    value_BHTS: torch.Tensor,
    attention_mask: Any,
    segments: Sequence[tuple[int, int]] | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' own attention, for each segment of a packed row by itself."""
    if segments is None:
        return sdpa_attention_forward(module, query_BHTS, key_BHTS, value_BHTS, attention_mask, **given)
    window = given.get("sliding_window")
    # Autocast leaves queries and keys, which were turned in float32, wider than values. A CPU's attention is faster in
    # float32 than in bf16.
    half = value_BHTS.dtype.itemsize == 2
    dtype = torch.float32 if half and value_BHTS.device.type == "cpu" else value_BHTS.dtype
    parts = []
    for start, end in segments:
        own = [tensor_BHTS[:, :, start:end] for tensor_BHTS in (query_BHTS, key_BHTS, value_BHTS)]
        mask = _band(end - start, window, query_BHTS.device) if window and end - start > window else None
        own = [tensor_BHTS.to(dtype) for tensor_BHTS in own]
        with torch.autocast(value_BHTS.device.type, enabled=False):
            parts.append(sdpa_attention_forward(module, *own, mask, **given)[0])
    return torch.cat(parts, dim=1).to(value_BHTS.dtype), None


def _band(tokens: int, window: int, device: torch.device) -> torch.Tensor:
    """Which positions [1, 1, T, T] see which: their own and the `window` - 1 before."""
    whole_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=device)
    return (whole_TT.tril() & whole_TT.triu(1 - window))[None, None]


def _mask(*args: Any, **given: Any) -> torch.Tensor | None:
    """No mask over a packed row: its segments are kept apart where attention is called."""
    return None if _packing.get() else sdpa_mask(*args, **given)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)


def why_not_packed(decoder: Any) -> str:
    """Why the rows of this decoder must not be packed; empty: they may be. What was tried once is remembered."""
    config = decoder.config
    if config.hidden_size < WIDE:
        return f"the model is small: its hidden size is below {WIDE}"
    if config._attn_implementation not in ("sdpa", NAME):
        return f"its attention is {config._attn_implementation}, not sdpa"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        return f"it has layers of {' and '.join(sorted(kinds))}"
    if any(isinstance(module, MIXERS) for module in decoder.modules()):
        return "it lets positions see each other outside attention"
    if decoder not in _verdicts:
        with switched(decoder):
            _verdicts[decoder] = _tried_out(decoder)
    return _verdicts[decoder]


@contextmanager
def switched(decoder: Any) -> Iterator[None]:
    """While the block runs, the decoder's attention knows segments; backward passes must be inside it too."""
    before = decoder.config._attn_implementation
    decoder.config._attn_implementation = NAME
    try:
        yield
    finally:
        decoder.config._attn_implementation = before


def packed(
    whole: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, *, lower_BTD: torch.Tensor | None = None, **given: Any
) -> Any:
    """What `whole`, a decoder's forward, gives for right-padded rows; states of padding are zero.

    `lower_BTD`, where it is given, is handed to `whole` in its own layout, as `lower`.
    """
    real_BT = mask_BT.bool()
    if lower_BTD is not None:
        given["lower"] = lower_BTD[real_BT][None]
    lengths = real_BT.sum(1).tolist()
    ends = torch.tensor(lengths).cumsum(0).tolist()
    segments = tuple((end - length, end) for end, length in zip(ends, lengths, strict=True) if length)
    places_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT)
    token = _packing.set(True)
    try:
        found = whole(
            input_ids=ids_BT[real_BT][None],
            attention_mask=None,
            position_ids=places_BT[real_BT][None],
            segments=segments,
            **given,
        )
    finally:
        _packing.reset(token)
    packed_ND = found.last_hidden_state[0]
    states_BTD = packed_ND.new_zeros(*ids_BT.shape, packed_ND.shape[-1])
    states_BTD[real_BT] = packed_ND
    found.last_hidden_state = states_BTD
    return found


@torch.no_grad()
def _tried_out(decoder: Any) -> str:
    """Run two rows padded and packed."""
    modes = [(module, module.training) for module in decoder.modules()]
    decoder.eval()  # no dropout, which would draw differently
    weight = decoder.get_input_embeddings().weight
    ids_BT = (torch.arange(len(ROWS) * max(ROWS), device=weight.device) * 7 % len(weight)).view(len(ROWS), -1)
    mask_BT = (torch.arange(max(ROWS)) < torch.tensor(ROWS)[:, None]).long().to(weight.device)
    try:
        whole = decoder.forward  # without the hooks of whoever looks on
        expected = whole(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
        found = packed(whole, ids_BT, mask_BT, use_cache=False).last_hidden_state
    except (TypeError, ValueError, RuntimeError) as error:
        return f"its decoder takes no packed rows ({str(error).splitlines()[0][:120]})"
    finally:
        for module, training in modes:
            module.training = training
    real_BT = mask_BT.bool()
    apart = (found[real_BT].float() - expected[real_BT].float()).abs().max()
    exact = weight.dtype in CLOSE and not torch.is_autocast_enabled(weight.device.type)
    if apart > (CLOSE[weight.dtype] if exact else ROUGH) * expected[real_BT].float().abs().max():
        return "packed rows saw each other when it was tried out"
    return ""

"""Whether a model's attention can be taken over: tried out once, when it is loaded, against its own."""

import inspect
import logging
from typing import Any

import torch

from nacre.model.ensemble import Ensemble
from nacre.model.prompts import has_prompts
from nacre.model.routed import Routed
from nacre.serve.engines.embedded import attention
from nacre.serve.engines.embedded.lora import Bank
from nacre.serve.engines.embedded.pools import Pools
from nacre.serve.engines.embedded.runners import Packed, Piece, plain_model

_log = logging.getLogger("nacre.serve")
_LAYERS = {"full_attention", "sliding_attention"}
_BATCH_ROPE = ("dynamic", "longrope")  # their angles depend on the longest row of a batch
_TOKENS = 21


def packed(model: Any, most_tokens: int, longest: int) -> tuple[Packed, Bank] | None:
    """The model, reading rows side by side; None where that would not say what the model says by itself."""
    causal = plain_model(model)
    reason = _unfit(model, causal)
    if not reason:
        before = causal.config._attn_implementation
        own_TV = _own_logits(model)
        causal.set_attn_implementation(attention.NAME)
        bank = Bank(causal)
        runner = Packed(model, bank, Pools(most_tokens, longest))
        reason = _differs(runner, own_TV, causal)
        if not reason:
            return runner, bank
        causal.set_attn_implementation(before)
    _log.warning("%s answers its rows one after the other: %s", type(causal).__name__, reason)
    return None


def _unfit(model: Any, causal: Any) -> str:
    """What is known to go wrong without trying."""
    config = causal.config.get_text_config()
    if isinstance(model, Routed | Ensemble) or has_prompts(model):
        return "what stands before its decoder must see whole rows"
    if not getattr(causal, "_supports_attention_backend", False):
        return "its attention is its own"
    if "logits_to_keep" not in inspect.signature(causal.forward).parameters:
        return "it cannot leave logits out"
    unknown = {*(getattr(config, "layer_types", None) or ())} - _LAYERS
    if unknown or getattr(config, "attention_chunk_size", None):
        return f"layers of another kind: {', '.join(sorted(unknown)) or 'chunked attention'}"
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {one.get("rope_type") for one in (rope, *rope.values()) if isinstance(one, dict)}
    if kinds & {*_BATCH_ROPE}:
        return "its positions depend on the longest row of a batch"
    return ""


def _probe_ids(model: Any) -> list[int]:
    size = plain_model(model).get_input_embeddings().weight.shape[0]
    return [(7 * place + 3) % size for place in range(_TOKENS)]


@torch.inference_mode()
def _own_logits(model: Any) -> torch.Tensor:
    ids_BT = torch.tensor([_probe_ids(model)], device=model.device)
    logits_TV: torch.Tensor = model(input_ids=ids_BT, use_cache=False).logits[0]
    return logits_TV.float()


@torch.inference_mode()
def _differs(runner: Packed, own_TV: torch.Tensor, causal: Any) -> str:
    """Read the same tokens in pieces, beside another row, and compare; empty if all is well."""
    ids = _probe_ids(causal)
    seats = [runner.take(_TOKENS) for _ in range(2)]
    found = []
    try:
        runner.run([Piece(seats[1], ids[:4], 0)])
        if runner.windows != _sliding_layers(causal.config.get_text_config()):
            return "its sliding windows are not told to its attention"
        found.append(runner.run([Piece(seats[0], ids[:9], 0, logits="all"), Piece(seats[1], ids[4:5], 4)])[0])
        found.append(runner.run([Piece(seats[1], ids[5:9], 5), Piece(seats[0], ids[9:-2], 9, logits="all")])[1])
        for place in (_TOKENS - 2, _TOKENS - 1):
            both = [Piece(seats[1], [ids[place]], place - 10), Piece(seats[0], [ids[place]], place)]
            found.append(runner.run(both)[1])
    except (attention.Unfit, TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError) as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
    finally:
        for seat in seats:
            if seat is not None:
                runner.free(seat, spoilt=True)
    packed_TV = torch.cat([read.logits_PV.float() for read in found if read.logits_PV is not None])
    loose = 1e-3 if causal.dtype == torch.float32 else 5e-2
    scale = own_TV.nan_to_num().abs().max().clamp(min=1e-6)
    near = torch.allclose(packed_TV / scale, own_TV / scale, rtol=0, atol=loose, equal_nan=True)
    return "" if near else "rows side by side would say something else"


def _sliding_layers(config: Any) -> int:
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return list(kinds).count("sliding_attention")
    slides = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return int(config.num_hidden_layers) if slides else 0

"""From hidden states to next-token logits, as a model's own forward pass makes them: head, scale and cap.

Terms over a part of the positions go by this instead of the bare output layer, whose logits some families change
afterwards: without that, a temperature of 4 or 16 would stand between what is compared and what the model says.
"""

from typing import Any

import torch

_CAPS = ("final_logit_softcapping", "output_logit_soft_cap", "logits_soft_cap")  # Gemma and others; xLSTM; Griffin


def next_token_logits(model: Any, hidden_PD: torch.Tensor) -> torch.Tensor:
    """Logits [..., V] of the decoder's last hidden states [..., D]; `model` may carry an adapter of PEFT's."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    logits_PV: torch.Tensor = causal.get_output_embeddings()(hidden_PD)
    config = causal.config.get_text_config()
    factor = factor_of(config)
    if factor != 1:
        logits_PV = logits_PV * factor
    cap = cap_of(config)
    return torch.tanh(logits_PV / cap) * cap if cap else logits_PV


def cap_of(config: Any) -> float:
    """What the family bounds its logits by; 0: they are not bounded."""
    return float(next((found for name in _CAPS if (found := getattr(config, name, None))), 0.0))


def factor_of(config: Any) -> float:
    """What the family multiplies its logits by; the same name means different things in different families."""
    kind = str(config.model_type)
    if kind.startswith("cohere"):
        return float(getattr(config, "logit_scale", None) or 1)
    if kind.startswith("granite"):
        return 1 / float(getattr(config, "logits_scaling", None) or 1)
    if kind.startswith("hyperclovax"):
        return float(getattr(config, "logits_scaling", None) or 1)
    if kind.startswith("falcon_h1"):
        return float(getattr(config, "lm_head_multiplier", None) or 1)
    return 1.0

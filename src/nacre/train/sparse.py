"""Zeros that stay zeros: a version that was pruned is trained on without being filled up again.

A weight whose gradient is always nothing does not move: neither Adam's moments nor decay give a zero a step. So it is
enough to take the gradient from the zeros before anything else sees it.
"""

from typing import Any

import torch
from torch import nn

LEAST, MOST = 0.05, 0.99  # share of zeros: fewer have come about by chance, more are a layer that begins at nothing


def hold_zeros(model: Any) -> list[str]:
    """Let no zero of a matrix move that has many of them; returns a sentence where there are any.

    Asked before anything is added to the model: adapters, and blocks that are new, begin at zero and must move.
    """
    if hasattr(model, "peft_config"):
        return []
    held, total = 0, 0
    for weight in _matrices(model):
        zeros_OI = weight.detach() == 0
        count = int(zeros_OI.sum())
        total += weight.numel()
        if LEAST <= count / weight.numel() <= MOST:
            held += count
            _hold(weight, zeros_OI)
    return [f"pruned: {held / total:.0%} of the linear layers' weights are zero and stay so"] if held else []


def _matrices(model: Any) -> list[torch.Tensor]:
    """The weights of the linear layers that train, but the head's."""
    head = model.get_output_embeddings()
    layers = (one for one in model.modules() if isinstance(one, nn.Linear) and one is not head)
    return [layer.weight for layer in layers if layer.weight.requires_grad and layer.weight.numel()]


def _hold(weight: torch.Tensor, zeros_OI: torch.Tensor) -> None:
    def without_zeros(gradient_OI: torch.Tensor) -> torch.Tensor:
        return gradient_OI.masked_fill(zeros_OI.to(gradient_OI.device), 0)

    weight.register_hook(without_zeros)  # type: ignore[no-untyped-call] # torch has no types here

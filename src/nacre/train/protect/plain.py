"""The weights of a version as one set of tensors."""

import torch
from peft import PeftModel

from nacre.model.load import load_model
from nacre.records import Weights


def plain_weights(weights: Weights) -> dict[str, torch.Tensor]:
    """Every parameter of the whole model by name, float32, on the CPU; an adapter is merged into its base."""
    model = load_model(weights, train=True, dtype=torch.float32)
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    return {name: weight.detach() for name, weight in model.named_parameters()}

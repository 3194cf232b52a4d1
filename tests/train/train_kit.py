"""Protections that tests put beside the real ones: one that looks on, one that breaks off."""

from typing import Any, ClassVar

import torch
from safetensors.torch import load_file

from nacre.train.protect.base import Batch, Protection, Step
from nacre.train.run import Trained


class Spy(Protection):
    """Keeps the gradients that the optimizer reads, and how the micro-batches looked."""

    name = "spy"
    steps: ClassVar[list[dict[str, torch.Tensor]]] = []
    batches: ClassVar[list[dict[str, Any]]] = []

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> None:
        self.batches.append({**batch, "hidden": hidden_BTD})

    def gradient(self, model: Any, step: Step) -> None:
        self.steps.append(
            {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        )


class Bomb(Protection):
    """Stops the run in the middle of a step."""

    name = "bomb"
    at: ClassVar[int | None] = None

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> None:
        if batch["step"] == self.at:
            raise KeyboardInterrupt


def tensors(trained: Trained) -> dict[str, torch.Tensor]:
    """What was trained, as saved."""
    return load_file(
        trained.folder / ("adapter_model.safetensors" if trained.kind == "adapter" else "model.safetensors")
    )


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of any number in two sets of tensors."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)

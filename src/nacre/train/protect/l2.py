"""L2-SP: a pull of every trained weight towards its starting point.

Source: Li, Grandvalet, Davoine 2018 (arXiv 1802.01483), eq. 2: penalty = strength / 2 * |w - w0|^2, so its
gradient strength * (w - w0) is added in closed form.
Cost: one copy of the trained weights, one pass over them a step. Weak alone; cheap company for replay.
"""

from typing import Any

import torch
from pydantic import Field

from nacre.base.config import Settings
from nacre.train.protect.base import Protection, Step


class L2(Protection):
    """Pull towards the weights training starts from."""

    name = "l2"
    pictures = True
    aligns = True
    held_copies = 1

    class Config(Settings):
        """Options of L2-SP."""

        strength: float = Field(0.1, gt=0, description="weight of the pull")

    def model(self, model: Any) -> Any:
        """Remember where every trained weight starts."""
        self._start = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self.notes.append(f"l2: strength {self.config.strength} on {len(self._start)} tensors")
        return model

    @torch.no_grad()
    def gradient(self, model: Any, step: Step) -> None:
        """Add the penalty's gradient."""
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and name in self._start:
                start = self._start[name].to(parameter.device)
                parameter.grad.add_(parameter.detach() - start, alpha=self.config.strength * self.scale)

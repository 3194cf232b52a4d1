"""Momentum-filtered optimizer: in each tensor only the weights with the largest momentum move.

Source: Chen et al. 2024 (arXiv 2407.20999), algorithm 1 with eq. 4: every moment of Adam is updated as usual, and
the step is kept only where |m| is among the largest `fraction` of its tensor. The weights stay nearer to where they
started, without any old data and without a copy of it.
The filter reads the momentum after all gradient edits, and what it holds back is put back after the step, so that
weight decay does not move it either.
Cost: one copy of the trained weights and a selection of the largest in every tensor, each step.
"""

from typing import Any

import torch
from pydantic import Field

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.train.protect.after_step import AfterStep
from nacre.train.protect.base import Context, Protection, Step


class Mofo(Protection):
    """Let only a fraction of every tensor's weights move in a step: those with the largest momentum."""

    name = "mofo"
    pictures = True
    aligns = True
    held_copies = 1

    class Config(Settings):
        """Options of MoFO."""

        fraction: float = Field(0.15, gt=0, lt=1, description="share of each tensor's weights that move in a step")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._after = AfterStep(self._hold_back)
        self._before: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        self.notes.append(f"mofo: in every step {config.fraction:.0%} of each tensor's weights move")

    @torch.no_grad()
    def gradient(self, model: Any, step: Step) -> None:
        """Remember where every weight is before the step.

        Raises:
            InputError: the optimizer has no momentum like Adam's.
        """
        if not all("betas" in group for group in step.optimizer.param_groups):
            raise _no_momentum(step.optimizer)
        self._after.hook(step.optimizer)
        self._before = [
            (weight, weight.detach().clone())
            for group in step.optimizer.param_groups
            for weight in group["params"]
            if weight.grad is not None
        ]

    @torch.no_grad()
    def _hold_back(self, optimizer: torch.optim.Optimizer) -> None:
        for weight, before in self._before:
            momentum = optimizer.state[weight].get("exp_avg")
            if momentum is None:
                raise _no_momentum(optimizer)
            moves = largest(momentum, self._fraction())
            weight.copy_(torch.where(moves, weight, before))
        self._before = []

    def _fraction(self) -> float:
        """A stronger protection lets fewer weights move; never fewer than one in a thousand, never more than all."""
        return min(1.0, max(1e-3, self.config.fraction / max(self.scale, 1e-6)))


def largest(values: torch.Tensor, fraction: float) -> torch.Tensor:
    """Mask of the `fraction` of all values, at least one, that are largest in size."""
    count = max(1, round(fraction * values.numel()))
    flat = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    flat[values.abs().flatten().topk(count).indices] = True
    return flat.reshape(values.shape)


def _no_momentum(optimizer: torch.optim.Optimizer) -> InputError:
    return InputError(
        f"the optimizer {type(optimizer).__name__} keeps no momentum that can be read",
        where="protect: mofo",
        fix="use an optimizer of Adam's kind in full precision, or leave mofo out",
    )

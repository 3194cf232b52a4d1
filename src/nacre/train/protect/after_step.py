"""The moment right after the optimizer's step: some protections must see, or correct, how far a weight has moved."""

from collections.abc import Callable
from typing import Any

import torch


class AfterStep:
    """Calls `act` after every step of the optimizer it was hooked to; a step that a scaler skips calls nothing."""

    def __init__(self, act: Callable[[torch.optim.Optimizer], None]) -> None:
        self._act = act
        self._hooked: torch.optim.Optimizer | None = None
        self._handle: Any = None

    def hook(self, optimizer: torch.optim.Optimizer) -> None:
        """Act after the steps of this optimizer from now on; calling it again changes nothing."""
        if self._hooked is optimizer:
            return
        if self._handle is not None:
            self._handle.remove()
        self._handle = optimizer.register_step_post_hook(lambda stepped, given, named: self._act(stepped))
        self._hooked = optimizer

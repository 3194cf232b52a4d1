"""What models of several adapters on one frozen base have in common: the base model's face."""

from typing import Any, Self

import torch
from peft import PeftModel
from torch import nn


class SeveralAdapters(nn.Module):
    """Called as the base model is; which adapters answer is for those to say that are made of it.

    Args:
        peft: the base with all adapters on it.
    """

    def __init__(self, peft: PeftModel) -> None:
        super().__init__()
        self.peft = peft
        self.eval()

    @property
    def config(self) -> Any:
        """The base model's configuration."""
        return self.peft.config

    @property
    def generation_config(self) -> Any:
        """The base model's generation settings."""
        return self.peft.generation_config

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.peft.device)

    @property
    def dtype(self) -> torch.dtype:
        """The base model's."""
        found: torch.dtype = self.peft.dtype
        return found

    def train(self, mode: bool = True) -> Self:
        """Always in evaluation mode: what has several adapters is not trained."""
        return super().train(False)

"""Several LoRA adapters on one base, each token through its own (Hu et al. 2021, arXiv 2106.09685, eq. 3).

The tokens of a step are sorted by adapter, so each adapter works on one stretch of them: two small products more for
each adapter that is there, whatever its rank, and none for rows without one.

Shapes: N tokens of a stretch, I and O the sizes of a linear layer, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class Delta:
    """What one adapter adds to one linear layer: ``scale · B · A``."""

    down_RI: torch.Tensor
    up_OR: torch.Tensor
    scale: float

    def to(self, weight: torch.Tensor) -> "Delta":
        """On the device and in the type of `weight`."""
        if not weight.is_floating_point():  # held in few bits, and computes in another type
            return Delta(self.down_RI.to(weight.device), self.up_OR.to(weight.device), self.scale)
        return Delta(self.down_RI.to(weight), self.up_OR.to(weight), self.scale)


Stretch = tuple[int, int, str]  # from, up to, adapter


class Bank:
    """The adapters on one base."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers: dict[str, _Mixed] = {}
        self.stretches: list[Stretch] = []

    def attach(self, name: str, deltas: Mapping[str, Delta]) -> None:
        """Put an adapter on; `deltas` by the name of the layer."""
        for place, delta in deltas.items():
            if place not in self._layers:
                self._layers[place] = _Mixed(self, self._model.get_submodule(place))
            mixed = self._layers[place]
            mixed.deltas[name] = delta.to(mixed.weight)

    def detach(self, name: str) -> None:
        """Take an adapter off."""
        for place in [place for place, mixed in self._layers.items() if name in mixed.deltas]:
            mixed = self._layers[place]
            del mixed.deltas[name]
            if not mixed.deltas:
                mixed.remove()
                del self._layers[place]


class _Mixed:
    """Stands behind one linear layer and adds what the adapters say."""

    def __init__(self, bank: Bank, layer: Any) -> None:
        self.deltas: dict[str, Delta] = {}
        self.weight: torch.Tensor = layer.weight
        self._bank = bank
        self._hook = layer.register_forward_hook(self._add)

    def remove(self) -> None:
        self._hook.remove()

    def _add(self, layer: Any, args: Any, out_1NO: torch.Tensor) -> None:
        assert out_1NO.ndim == 3, "the layer sees single tokens, not a step"
        for start, end, name in self._bank.stretches:
            delta = self.deltas.get(name)
            if delta is None:
                continue
            there_NI = args[0][0, start:end]
            down_NR = there_NI.to(delta.down_RI.dtype) @ delta.down_RI.T
            if out_1NO.dtype == down_NR.dtype:
                out_1NO[0, start:end].addmm_(down_NR, delta.up_OR.T, alpha=delta.scale)
            else:
                out_1NO[0, start:end] += (down_NR @ delta.up_OR.T * delta.scale).to(out_1NO.dtype)

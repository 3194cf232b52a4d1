"""O-LoRA: each increment learns in directions that the ones before did not use.

Source: Wang et al. 2023 (arXiv 2310.14152), section 3: the adapter so far is frozen and stays active, a new one is
trained beside it, and to the loss is added strength * sum over modules of sum |A_old A_new^T|, so that the new one
reads other directions of the hidden states. (The paper's equation squares the products; its authors' program, and
this, takes their absolute values.)
Old and new are one adapter of the ranks' sum all the time: rows of A on top of each other, columns of B side by side,
and the scaling folded into B. So a version is one plain LoRA adapter that any program loads; its rank grows by
`tune.rank` with every increment.
On real tasks it is known to forget about as much as plain LoRA does: keep it company with replay.
Cost: one product [R, R] a module and micro-batch; a copy of the old adapter.
"""

from typing import Any, ClassVar

import torch
from pydantic import Field

from nacre.base.config import Settings
from nacre.records.tune import Lora, QLora
from nacre.train.protect.adapters import lora_layers, matrices, pairs, plain_config, put_adapter
from nacre.train.protect.after_step import AfterStep
from nacre.train.protect.base import Batch, Protection, Step

_AS_IT_WAS = "the adapter's earlier part must stay as it was"


class Orthogonal(Protection):
    """Freeze the adapter so far and train a new one beside it, orthogonal to it."""

    name = "orthogonal"
    pictures = True
    tuners = ("lora", "qlora")
    contradicts: ClassVar[dict[str, str]] = {"merge": _AS_IT_WAS, "intruder": _AS_IT_WAS}
    reshapes = True
    held_copies = 1

    class Config(Settings):
        """Options of O-LoRA."""

        strength: float = Field(0.5, gt=0, description="weight of the overlap, the sum of |A_old A_new^T|")

    def model(self, model: Any) -> Any:
        """Put a new adapter beside the one that training starts from, if there is one.

        Raises:
            InputError: the adapter so far is more than its matrices (DoRA, ranks of single modules).
        """
        self._read: list[tuple[torch.nn.Parameter, int]] = []  # A of each module, and how many rows are old
        self._held: list[tuple[torch.nn.Parameter, torch.Tensor]] = []  # and their frozen parts, as they must be
        self._after = AfterStep(lambda _: self._put_back())
        config = plain_config(model, self.name)
        if self.context.start.adapter is None:
            self.notes.append("orthogonal: there is no earlier adapter, so nothing to be orthogonal to")
            return model
        tune = self.context.tune
        assert isinstance(tune, Lora | QLora)
        old, new = config.r, tune.rank
        scaling = (tune.alpha or 2 * new) / (new**0.5 if config.use_rslora else new)
        put_adapter(model, pairs(model), config, rank=old + new, scaling=scaling)
        for _, layer in lora_layers(model):
            A_RI, B_OR = matrices(layer)
            self._read.append((A_RI, old))
            self._hold(A_RI, A_RI.detach()[:old])
            self._hold(B_OR, B_OR.detach()[:, :old])
        beside = f"rank {new} trains beside the frozen {old}, one adapter of rank {old + new}"
        self.notes.append(f"orthogonal: {beside}; strength {self.config.strength}")
        return model

    def _hold(self, weight: torch.nn.Parameter, frozen: torch.Tensor) -> None:
        """Keep gradients from the frozen part, so that they do not count when gradients are clipped either."""
        part = tuple(slice(size) for size in frozen.shape)
        trained = torch.ones_like(weight)
        trained[part] = 0
        weight.register_hook(lambda grad: grad * trained)  # type: ignore[no-untyped-call] # torch has no types here
        self._held.append((weight, frozen.clone()))

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """The overlap times the strength."""
        if not self._read:
            return None
        overlaps = [(A_RI[:old].detach() @ A_RI[old:].T).abs().sum() for A_RI, old in self._read]
        return self.config.strength * torch.stack(overlaps).sum()

    def gradient(self, model: Any, step: Step) -> None:
        """Weight decay shrinks what has no gradient too: after each step the frozen part is put back."""
        if self._held:
            self._after.hook(step.optimizer)

    @torch.no_grad()
    def _put_back(self) -> None:
        for weight, frozen in self._held:
            weight[tuple(slice(size) for size in frozen.shape)] = frozen

    def finish(self, model: Any) -> Any:
        """Say how orthogonal it became."""
        if self._read:
            cosines = [_cosines(A_RI.detach()[:old], A_RI.detach()[old:]) for A_RI, old in self._read]
            mean = float(torch.stack(cosines).mean())
            self.notes.append(f"orthogonal: mean |cosine| of old and new input directions {mean:.3f} at the end")
        return model


def _cosines(old_RI: torch.Tensor, new_RI: torch.Tensor) -> torch.Tensor:
    """Mean absolute cosine of every old with every new direction."""
    unit_old, unit_new = (torch.nn.functional.normalize(rows.float(), dim=1) for rows in (old_RI, new_RI))
    return (unit_old @ unit_new.T).abs().mean()

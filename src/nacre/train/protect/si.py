"""Synaptic intelligence: weights whose way lowered the loss of past increments are held more firmly.

Source: Zenke, Poole, Ganguli 2017 (arXiv 1703.04200). While an increment trains, every weight gathers
omega += -gradient * (its change in the step) (eq. 3, the path integral); at the end its importance grows by
omega / (whole change^2 + damping) (eq. 5), never by less than 0. The next increments pay
strength * sum_i importance_i (w_i - w0_i)^2 (eq. 4), whose gradient is added in closed form after clipping.
The path integral takes the clipped gradient without this pull, and what the protections before it in the list have
added. The importance lies in the memory folder under the hash of the finished weights; no old rows are needed.
The first increment under it therefore holds nothing: there is no way to look back on yet.
On the toy of the tests it keeps less for what it costs in new learning than `ewc` does.
Cost: two copies of the trained weights kept (importance, path), one more of the start, and during a step one of
gradient and weights each; no forward or backward of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field

from nacre.base.config import Settings
from nacre.train.protect.after_step import AfterStep
from nacre.train.protect.base import Context, Protection, Step
from nacre.train.protect.importance import Tensors, add_pulls, copies, read_kept, trained_weights, write_kept


class Si(Protection):
    """Pull towards the start, each weight by what its way has brought so far."""

    name = "si"
    pictures = True
    held_copies = 5  # importance, path and start; weights and gradients of the step
    contradicts: ClassVar[dict[str, str]] = {
        "mofo": "si must see the step that is really made, and mofo takes most of it back",
        "orthogonal": "the adapter grows with every increment, so what one gathered fits no weight of the next",
        "merge": "merging writes the weights anew, and the way that was gathered does not lead there",
        "osf": "in the end other weights take the place of those that trained, so what they gathered fits none",
    }

    class Config(Settings):
        """Options of synaptic intelligence."""

        strength: float = Field(1.0, gt=0, description="weight of the pull; no value carries over between models")
        damping: float = Field(1e-3, gt=0, description="added to the squared change, so that still weights stay free")
        max_norm: float = Field(1.0, gt=0, description="limit of the pull's norm")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._after = AfterStep(self._gather)
        self._importance: Tensors = {}
        self._before: list[tuple[str, torch.nn.Parameter, torch.Tensor, torch.Tensor]] = []

    def model(self, model: Any) -> Any:
        """Remember the start, and read what the increments before have gathered."""
        self._start = copies(model)
        self._path = {name: torch.zeros_like(start) for name, start in self._start.items()}
        kept = read_kept(self.context.folder, self.name, self.context.start, self._start)
        if kept is None:
            self.notes.append("si: nothing was gathered before this start, so nothing is held; this increment gathers")
        else:
            self._importance = kept[0]["importance"]
            told = f"importance gathered in {kept[1]['increments']} earlier increments"
            self.notes.append(f"si: strength {self.config.strength:g}, {told}")
        self._increments = int(kept[1]["increments"]) + 1 if kept else 1
        return model

    @torch.no_grad()
    def gradient(self, model: Any, step: Step) -> None:
        """Remember gradient and weights for the path, then add the pull."""
        self._after.hook(step.optimizer)
        moving = {name: weight for name, weight in trained_weights(model).items() if weight.grad is not None}
        self._before = [
            (name, weight, weight.grad.clone(), weight.detach().clone())
            for name, weight in moving.items()
            if name in self._path and weight.grad is not None
        ]
        pulls = {
            name: (weight.detach() - self._start[name]).mul_(self._importance[name])
            for name, weight in moving.items()
            if name in self._importance
        }
        add_pulls(moving, pulls, 2 * self.config.strength * self.scale, self.config.max_norm)

    @torch.no_grad()
    def _gather(self, optimizer: torch.optim.Optimizer) -> None:
        for name, weight, gradient, before in self._before:
            self._path[name].addcmul_(gradient.to(weight.dtype), weight.detach() - before, value=-1)
        self._before = []

    def saved(self, model: Any, folder: Path) -> None:
        """Turn the path into importance and keep it for the increment that starts here."""
        trained = trained_weights(model)
        kept: Tensors = {}
        for name, path in self._path.items():
            older = self._importance.get(name, torch.zeros_like(path))
            if name in trained and trained[name].shape == path.shape:
                change = trained[name].detach().to(path) - self._start[name]
                kept[name] = older + consolidated(path, change, self.config.damping)
        told = {"increments": str(self._increments)}
        write_kept(self.context.folder, self.name, folder, {"importance": kept}, told)

    def state(self) -> Tensors:
        """The path so far."""
        return self._path

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from the path that was gathered."""
        self._path = {name: path.to(self._start[name].device) for name, path in state.items()}


def consolidated(path: torch.Tensor, change: torch.Tensor, damping: float) -> torch.Tensor:
    """What an increment adds to the importance: eq. 5, and 0 where the way has raised the loss."""
    return (path / (change.square() + damping)).clamp_(min=0)

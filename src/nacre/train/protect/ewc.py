"""Elastic weight consolidation: weights that mattered to past tasks are held more firmly.

Source: Kirkpatrick et al. 2017 (arXiv 1612.00796), eq. 3: penalty = strength / 2 * sum_i F_i (w_i - w0_i)^2.
F is the diagonal empirical Fisher information: the mean over *examples* of the squared gradient of that
example's log-likelihood. (The square of a batch's mean gradient, common in public code, is another and far
smaller quantity.) One running F for all past tasks, as in online EWC (Schwarz et al. 2018, arXiv 1805.06370).
The penalty's gradient is added in closed form after clipping, with a norm limit of its own.
Cost: two copies of the trained weights; one pass over `samples` rows of each past task before training.
No strength carries over from one model to another, so this is never on by itself.
"""

from typing import Any

import torch
from pydantic import Field
from safetensors.torch import load_file, save

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.base.hashing import content_hash
from nacre.base.progress import progress
from nacre.model.chat import IGNORED
from nacre.records import Example
from nacre.train.protect.base import Protection, Step
from nacre.train.rows import encode_rows


class Ewc(Protection):
    """Pull towards the weights training starts from, each by its importance to past tasks."""

    name = "ewc"

    class Config(Settings):
        """Options of EWC."""

        strength: float = Field(1000.0, gt=0, description="weight of the pull; no value carries over between models")
        samples: int = Field(100, ge=1, description="rows of each past task that the importance is measured on")
        max_norm: float = Field(1.0, gt=0, description="limit of the penalty gradient's norm")

    def model(self, model: Any) -> Any:
        """Measure the importance on the starting weights, or read it where it was measured before."""
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._start = {name: parameter.detach().clone() for name, parameter in trained.items()}
        rows = [
            row
            for kept in self.context.memory.values()
            for row in sorted(kept, key=lambda row: row.content_id)[: self.config.samples]
        ]
        if not rows:
            self._importance = {}
            self.notes.append("ewc: there are no rows of past tasks, so nothing is held")
            return model
        path = self.context.folder / "importance" / f"{self._key(trained, rows)}.safetensors"
        if not path.exists():
            measured = fisher(model, rows, self.context.tokenizer, self.context.max_length)
            atomic_write(path, save(measured))
        self._importance = load_file(path, device=str(model.device))
        self.notes.append(f"ewc: strength {self.config.strength}, importance measured on {len(rows)} rows")
        return model

    def _key(self, trained: dict[str, torch.Tensor], rows: list[Example]) -> str:
        """Names the file by everything that decides its content; the seed makes the start of a new adapter."""
        shapes = {name: list(weight.shape) for name, weight in trained.items()}
        told = [self.context.start.identity, self.context.seed, self.context.max_length, shapes]
        return content_hash([*told, [row.content_id for row in rows]])

    @torch.no_grad()
    def gradient(self, model: Any, step: Step) -> None:
        """Add strength * F * (w - w0), at most `max_norm` long."""
        pulls = {}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and name in self._importance:
                importance = self._importance[name].to(parameter.device)
                away = parameter.detach() - self._start[name].to(parameter.device)
                pulls[name] = away.mul_(importance).mul_(self.config.strength * self.scale)
        if not pulls:
            return
        norm = torch.stack([pull.norm() for pull in pulls.values()]).norm()
        scale = torch.clamp(self.config.max_norm / (norm + 1e-12), max=1.0)
        for name, parameter in model.named_parameters():
            if name in pulls:
                parameter.grad.add_(pulls[name] * scale)


def fisher(model: Any, rows: list[Example], tokenizer: Any, max_length: int) -> dict[str, torch.Tensor]:
    """Diagonal empirical Fisher of the trained weights, by parameter name.

    The mean over rows of the squared gradient of the row's summed negative log-likelihood. One row at a time,
    because squaring comes before averaging.

    Raises:
        InputError: no row has a token of an answer.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    total = {name: torch.zeros_like(weight) for name, weight in trained.items()}
    encoded = encode_rows(rows, tokenizer, max_length, [])
    if not encoded:
        raise InputError(
            f"no row of a past task has an answer within {max_length} tokens",
            where="protect: ewc",
            fix="raise max_length, or leave ewc out",
        )
    device = model.device
    was_training = model.training
    model.eval()
    with progress("measuring importance", len(encoded)) as advance:
        for row in encoded:
            labels_BT = torch.tensor([row.labels], device=device)
            output = model(input_ids=torch.tensor([row.input_ids], device=device), labels=labels_BT)
            likelihood = output.loss * (labels_BT[:, 1:] != IGNORED).sum()
            grads = torch.autograd.grad(likelihood, list(trained.values()), allow_unused=True)
            for name, grad in zip(trained, grads, strict=True):
                if grad is not None:
                    total[name].addcmul_(grad, grad, value=1 / len(encoded))
            advance(1)
    model.train(was_training)
    return total

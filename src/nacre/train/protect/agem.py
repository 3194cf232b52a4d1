"""Averaged gradient episodic memory: a step must not raise the loss of past rows, to first order.

Source: Chaudhry et al. 2019 (arXiv 1812.00420), eq. 11: with g the step's gradient and r the gradient on rows of
past tasks, g <- g - (g.r / r.r) r where g.r < 0, and g as it is elsewhere. The projection comes before the
optimizer's step. It comes after clipping, which changes nothing: it turns a scaled gradient as it turns the whole
one. Pulls of protections earlier in the list are part of g, those of later ones are not.
Cost: one forward and backward of `rows` past rows a step, and two copies of the gradient while it is made.
The past rows are not trained on; where they may be kept, replaying as many of them keeps more.
"""

from typing import Any

import torch
from pydantic import Field
from torch.nn import functional

from nacre.base.config import Settings
from nacre.model.chat import IGNORED, Encoded
from nacre.train.arguments import autocast_of
from nacre.train.protect.base import Protection, Step
from nacre.train.protect.importance import measurable, trained_weights


class Agem(Protection):
    """Take out of each step's gradient what points against past rows."""

    name = "agem"
    pictures = True
    held_copies = 2
    steered = False  # the whole projection is made from the start, and more than that there is not
    stages = ("sft", "pt")

    class Config(Settings):
        """Options of A-GEM."""

        rows: int = Field(8, ge=1, description="past rows per optimizer step, drawn evenly over the tasks")

    def model(self, model: Any) -> Any:
        """Read the past rows."""
        past = [rows for rows in self.context.memory.values() if rows]
        self._tasks = [measurable(rows, self.context.tokenizer, self.context.max_length) for rows in past]
        self._projected = self._steps = 0
        if not self._tasks:
            self.notes.append("agem: there are no rows of past tasks, so no gradient is projected")
        return model

    def gradient(self, model: Any, step: Step) -> None:
        """Project the gradient where it would raise the past rows' loss."""
        if not self._tasks:
            return
        trained = {name: weight for name, weight in trained_weights(model).items() if weight.grad is not None}
        reference = self._reference(model, list(trained.values()), step.number)
        with torch.no_grad():
            grads = [weight.grad for weight in trained.values() if weight.grad is not None]
            along = sum(torch.sum(one.float() * other) for one, other in zip(grads, reference, strict=True))
            length = sum(other.square().sum() for other in reference)
            self._steps += 1
            if along < 0 < length:
                self._projected += 1
                for one, other in zip(grads, reference, strict=True):
                    one.sub_((along / length * other).to(one.dtype), alpha=min(1.0, self.scale))

    def finish(self, model: Any) -> Any:
        """Say how often it acted."""
        if self._steps:
            told = f"the gradient was projected in {self._projected} of {self._steps} steps"
            self.notes.append(f"agem: {told}, by {self.config.rows} past rows each")
        return model

    def _reference(self, model: Any, weights: list[torch.nn.Parameter], number: int) -> list[torch.Tensor]:
        """Gradient of the drawn rows' mean loss, as autograd gives it, without touching `grad`."""
        rows = self._draw(number)
        width = max(len(row.input_ids) for row in rows)
        ids_BT = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in rows])
        mask_BT = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows])
        targets_BT = torch.tensor([row.labels[1:] + [IGNORED] * (width - len(row.labels) + 1) for row in rows])
        ids_BT, mask_BT, targets_BT = (each.to(model.device) for each in (ids_BT, mask_BT, targets_BT))
        wanted_BT = targets_BT != IGNORED
        training = model.training
        model.eval()  # no dropout: the draw of the step's own rows is left as it is
        with autocast_of(self.context.train.precision):
            given = {"input_ids": ids_BT, "attention_mask": mask_BT, "use_cache": False}
            logits_PV = model(**given, logits_to_keep=wanted_BT).logits.flatten(0, -2)
            loss = functional.cross_entropy(logits_PV.float(), targets_BT[wanted_BT])
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        model.train(training)
        pairs = zip(grads, weights, strict=True)
        return [torch.zeros_like(weight).float() if grad is None else grad.float() for grad, weight in pairs]

    def _draw(self, number: int) -> list[Encoded]:
        """By step number, so that a resumed run draws what an unbroken one would."""
        draw = torch.Generator().manual_seed(self.context.seed * 1_000_003 + number)
        first = int(torch.randint(len(self._tasks), (), generator=draw))
        tasks = [self._tasks[(first + place) % len(self._tasks)] for place in range(self.config.rows)]
        return [task[int(torch.randint(len(task), (), generator=draw))] for task in tasks]

"""The learning rate of a run whose datasets are learned one after another: each has its own warm-up and decay.

Under one schedule over all of them the last dataset would be learned at next to no rate.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

if TYPE_CHECKING:
    TrainerLike = Any  # a mixin calls what the Trainer after it in the chain has
else:
    TrainerLike = object


@dataclass(frozen=True)
class Part:
    """The optimizer steps of one dataset, and how many of them warm up."""

    steps: int
    warmup: int


class InTurn(TrainerLike):
    """Mixin for any Trainer: where `parts` has entries, the learning rate starts anew with each."""

    parts: Sequence[Part] = ()
    lr_scheduler: Any

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The trainer's own schedule, or the one of the parts."""
        if not self.parts or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        factor = part_by_part(str(self.args.lr_scheduler_type.value), self.parts, self.args.learning_rate)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler


def part_by_part(name: str, parts: Sequence[Part], rate: float) -> Callable[[int], float]:
    """By what the highest `rate` is multiplied at each step: the schedule of that name, anew for every part."""
    ends = list(accumulate(part.steps for part in parts))
    courses = [_course(name, part, rate) for part in parts]

    def factor(step: int) -> float:
        place = min(bisect_right(ends, step), len(parts) - 1)
        return courses[place](step - (ends[place] - parts[place].steps))

    return factor


def _course(name: str, part: Part, rate: float) -> Callable[[int], float]:
    """Transformers' schedule of one part, taken out of a scheduler over a weight that is nobody's."""
    nobodys = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler: Any = get_scheduler(name, nobodys, num_warmup_steps=part.warmup, num_training_steps=part.steps)
    course: Callable[[int], float] = scheduler.lr_lambdas[0]
    return course

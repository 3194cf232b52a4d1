"""A short rehearsal of a run, for choosing a protection's strength: trained, looked at, undone.

Shapes: B rows, T tokens of the longest, P supervised positions, V vocabulary.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from nacre.base.progress import progress
from nacre.model.chat import IGNORED, Encoded
from nacre.records import Train

ROWS, SHARE, STEPS, HELD_OUT = 32, 0.1, 30, 64


@dataclass(frozen=True)
class Pilot:
    """What was tried: strength to validation loss in nats per token, 0 among them; and what was chosen of it.

    `start` is the validation loss before any training.
    """

    chosen: float
    losses: Mapping[float, float]
    start: float

    def __str__(self) -> str:
        told = ", ".join(f"{strength:.3g}: {loss:.3f}" for strength, loss in sorted(self.losses.items()))
        return f"validation loss {self.start:.3f} before training; after it by strength {told}"


@dataclass(frozen=True)
class Rehearsal:
    """A model, the rows to rehearse on, and how the run will train.

    `pull(strength, optimizer)` is called before each step, as the protection will be.
    """

    model: torch.nn.Module
    rows: Sequence[Encoded]
    settings: Train
    pull: Callable[[float, torch.optim.Optimizer], None]

    def run(self, decades: tuple[int, int], tolerance: float = 0.05) -> Pilot:
        """The largest strength that leaves the validation loss within a share of `tolerance` of strength 0's.

        First by halving the range of powers of ten, then one half power above the found one. The weights are put
        back after every try. Where even the smallest is too strong, the choice is 0.
        """
        training, held_out = self._split()
        losses: dict[float, float] = {}
        start = self._loss(held_out)
        with progress("trying strengths", 3 + (decades[1] - decades[0]).bit_length()) as advance:

            def passes(strength: float) -> bool:
                if strength not in losses:
                    losses[strength] = self._try(strength, training, held_out)
                    advance(1)
                return losses[strength] <= losses[0.0] * (1 + tolerance)

            passes(0.0)
            low, high = decades[0] - 1, decades[1] + 1  # 10^low passes or is below the range, 10^high does not
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if passes(10.0**middle) else (low, middle)
            chosen = 10.0**low if low >= decades[0] else 0.0
            if chosen and high <= decades[1] and passes(10.0 ** (low + 0.5)):
                chosen = 10.0 ** (low + 0.5)
        return Pilot(chosen, losses, start)

    def _split(self) -> tuple[list[Encoded], list[Encoded]]:
        """A tenth of the rows, at least 32, to train on, and up to 64 others to look at."""
        shuffled = random.Random(self.settings.seed).sample(list(self.rows), len(self.rows))
        count = max(1, min(ROWS, len(shuffled) // 2), round(SHARE * len(shuffled)))
        return shuffled[:count], shuffled[count : count + HELD_OUT] or shuffled[:count]

    def _try(self, strength: float, training: list[Encoded], held_out: list[Encoded]) -> float:
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        before = [weight.detach().clone() for weight in weights]
        device = next(iter(weights)).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.settings.seed)
            try:
                self._train(strength, training, weights)
                return self._loss(held_out)
            finally:
                with torch.no_grad():
                    for weight, old in zip(weights, before, strict=True):
                        weight.copy_(old)
                        weight.grad = None

    def _train(self, strength: float, rows: list[Encoded], weights: list[torch.nn.Parameter]) -> None:
        settings = self.settings
        assert isinstance(settings.learning_rate, float)  # settled before
        optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        draw, waiting = random.Random(settings.seed), list[Encoded]()
        for number in range(STEPS):
            share = min((number + 1) / 2, 0.5 + 0.5 * math.cos(math.pi * number / STEPS))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * share
            while len(waiting) < settings.batch_size:
                waiting += draw.sample(rows, len(rows))
            batch, waiting = waiting[: settings.batch_size], waiting[settings.batch_size :]
            tokens = sum(_targets(row) for row in batch)
            optimizer.zero_grad()
            size = max(1, settings.batch_size // settings.accumulation)
            for first in range(0, len(batch), size):
                torch.autograd.backward(total_loss(self.model, batch[first : first + size]) / tokens)
            torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm)
            if strength:
                self.pull(strength, optimizer)
            optimizer.step()

    @torch.no_grad()
    def _loss(self, rows: list[Encoded]) -> float:
        training = self.model.training
        self.model.eval()
        size = max(1, self.settings.batch_size // self.settings.accumulation)
        total = sum(float(total_loss(self.model, rows[first : first + size])) for first in range(0, len(rows), size))
        self.model.train(training)
        return total / sum(_targets(row) for row in rows)


def total_loss(model: torch.nn.Module, rows: Sequence[Encoded]) -> torch.Tensor:
    """Next-token cross-entropy summed over the rows' labelled tokens, in nats."""
    device = next(model.parameters()).device
    width = max(len(row.input_ids) for row in rows)
    ids_BT = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in rows], device=device)
    mask_BT = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows])
    targets_BT = torch.tensor(
        [row.labels[1:] + [IGNORED] * (width - len(row.labels) + 1) for row in rows], device=device
    )
    wanted_BT = targets_BT != IGNORED
    given = {"input_ids": ids_BT, "attention_mask": mask_BT.to(device), "use_cache": False}
    logits_PV = model(**given, logits_to_keep=wanted_BT).logits.flatten(0, -2)
    return functional.cross_entropy(logits_PV.float(), targets_BT[wanted_BT], reduction="sum")


def _targets(row: Encoded) -> int:
    return sum(label != IGNORED for label in row.labels[1:])

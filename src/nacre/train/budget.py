"""The budget while training: watched rows of old tasks steer how strongly the protections act.

A primal-dual method (Arrow, Hurwicz, Uzawa 1958; for constrained deep learning Gallego-Posada et al. 2022, arXiv
2208.04425): minimise the loss subject to drop_k <= max_drop_k for every old task k. The constraints share one
multiplier, which scales every active protection: it grows by the largest excess and shrinks where all tasks have
slack. It is updated in its logarithm, so that it stays positive, and held between bounds.
A watched task's score is the mean probability per answer token (geometric mean within a row) on rows that no run
ever trained on: smooth, from 0 to 1 like the scores of the gate, and one forward pass of a few rows. So few rows are
noisy, so only what exceeds one standard error of the drop counts, in either direction.
Cost: `CHECKS` forward passes over `WATCHED` rows of each old task.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from nacre.model.losses import answer_losses
from nacre.model.prompts import as_it_began
from nacre.records import Example
from nacre.train.protect.base import Protection

WATCHED = 16  # rows of each old task
LARGEST_PART = 8  # at most an eighth of a task's rows is watched instead of trained on
CHECKS = 10
RATE = 4.0  # an excess of 0.1 multiplies the weight by exp(0.4) = 1.5
LOWEST, HIGHEST = 0.5, 3.0
STEP_LIMIT = 0.2  # excess or slack that counts in one update: one noisy check must not decide


def set_aside(
    memory: Mapping[str, Sequence[Example]],
) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """(rows to keep training on, rows to watch) of each task; the same rows in every run, whatever their order."""
    kept: dict[str, list[Example]] = {}
    watched: dict[str, list[Example]] = {}
    for task, rows in memory.items():
        answers = [row for row in rows if row.kind != "text" and row.desirable is not False]
        first = sorted(answers, key=lambda row: row.content_id)[: min(WATCHED, len(rows) // LARGEST_PART)]
        chosen = {row.content_id for row in first}
        kept[task] = [row for row in rows if row.content_id not in chosen]
        if first:
            watched[task] = first
    return kept, watched


class Controller(TrainerCallback):
    """Raises the protections' scale while a watched task is beyond its budget, and lowers it while all have slack."""

    name = "budget"

    def __init__(
        self,
        protections: Sequence[Protection],
        watched: Mapping[str, Sequence[Example]],
        max_drop: Mapping[str, float],
        tokenizer: Any,
        max_length: int,
        *,
        fresh: bool = False,
    ) -> None:
        self._fresh = fresh  # it carries an adapter that the starting version does not have
        self.steered = [one for one in protections if acts_while_training(type(one))]
        self.watched, self.max_drop = watched, max_drop
        self.tokenizer, self.max_length = tokenizer, max_length
        self.scale = 1.0
        self._before: dict[str, list[float]] = {}
        self._worst = (-math.inf, "")
        self._range = (1.0, 1.0)
        self._seen: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Measure what there is to lose, unless a checkpoint has said so."""
        if not self._before:
            with as_it_began(model, self._fresh):
                self._before = self._scores(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Compare with the start and move the scale; every check is a line of the log."""
        every = max(1, state.max_steps // CHECKS)
        if state.global_step % every:
            return
        now = self._scores(model)
        pairs = {task: [a - b for a, b in zip(self._before[task], now[task], strict=True)] for task in now}
        drops = {task: statistics.mean(changes) for task, changes in pairs.items()}
        excess, task = max((beyond(changes, self.max_drop.get(task, 0.0)), task) for task, changes in pairs.items())
        self._worst = max(self._worst, (excess, task))
        moved = self.scale * math.exp(RATE * max(-STEP_LIMIT, min(STEP_LIMIT, excess)))
        self.set_scale(max(LOWEST, min(HIGHEST, moved)))
        self._seen = {"protection_scale": self.scale, **{f"watched_drop/{name}": drop for name, drop in drops.items()}}
        state.log_history.append({"step": state.global_step, **{key: round(x, 4) for key, x in self._seen.items()}})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Put the newest check among what the callbacks after this one send elsewhere."""
        if logs is not None and "loss" in logs:
            logs.update(self._seen)

    def set_scale(self, scale: float) -> None:
        """Make every steered protection act `scale` times as strongly as its options say."""
        self.scale = scale
        self._range = (min(self._range[0], scale), max(self._range[1], scale))
        for protection in self.steered:
            protection.scale = scale

    def notes(self) -> list[str]:
        """What it watched and what it did, in one sentence."""
        rows = sum(len(rows) for rows in self.watched.values())
        excess, task = self._worst
        held = "no watched task fell beyond its budget"
        if excess > 0:
            held = f"{task} was beyond its budget by up to {excess:.2f}"
        low, high = self._range
        acted = f"the protections' strength moved between {low:.2f} and {high:.2f} times what it starts from"
        return [f"budget: {rows} rows of {len(self.watched)} old task(s) were watched, not trained on: {held}; {acted}"]

    def state(self) -> dict[str, torch.Tensor]:
        """For a checkpoint."""
        before = [score for task in self.watched for score in self._before[task]]
        excess, task = self._worst
        worst = [excess, list(self.watched).index(task) if task else -1]
        return {
            "numbers": torch.tensor([self.scale, *self._range, *before], dtype=torch.float64),
            "worst": torch.tensor(worst, dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """From a checkpoint."""
        if not state:
            return
        scale, low, high, *before = state["numbers"].tolist()
        self._range = (low, high)
        excess, place = state["worst"].tolist()
        self._worst = (excess, list(self.watched)[int(place)] if place >= 0 else "")
        scores = iter(before)
        self._before = {task: [next(scores) for _ in rows] for task, rows in self.watched.items()}
        self.set_scale(scale)

    def _scores(self, model: Any) -> dict[str, list[float]]:
        training = model.training
        model.eval()
        rows = [row for rows in self.watched.values() for row in rows]
        losses = iter(answer_losses(model, self.tokenizer, rows, self.max_length))
        model.train(training)
        return {
            task: [math.exp(-loss.nll / max(loss.tokens, 1)) for loss in (next(losses) for _ in rows)]
            for task, rows in self.watched.items()
        }


def beyond(changes: Sequence[float], limit: float) -> float:
    """By how much a mean drop is above (or, negative, below) `limit`, less one standard error towards 0."""
    error = statistics.stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else 0.0
    excess = statistics.mean(changes) - limit
    return math.copysign(max(0.0, abs(excess) - error), excess)


def acts_while_training(kind: type[Protection]) -> bool:
    """Whether it has a strength that can be changed between two steps."""
    if kind.steered is not None:
        return kind.steered
    return any(
        getattr(kind, moment) is not getattr(Protection, moment) for moment in ("loss", "scaled_loss", "gradient")
    )

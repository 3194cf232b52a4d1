"""Averaging: the result is moved back towards where training began, as far as the kept tasks gain by it.

Source: Wortsman et al. 2022, WiSE-FT (arXiv 2109.01903): (1 - alpha) * start + alpha * trained, for every weight. Alpha
is chosen on rows of each past task and on a few new rows that are held out of training: the largest mean over tasks,
the new one included, of the likelihood per token that the answers have (`likelihood`, below); of equal alphas the
largest, which keeps most of the new.
For adapters the matrices themselves are averaged, so the rank stays. Rows of A that begin with zeros in B say nothing
yet, so there A stays as trained and B alone is scaled: a new adapter's B A is then exactly alpha times itself.
Without rows of past tasks there is nothing to choose by: alpha is 0.5, which on real tasks closed about a third of
the gap between plain and joint training (this project's trials: 32 %). With replay the search mostly finds 1.
Cost: nothing while training but, of an adapter, one copy of its start in main memory, where after training two copies
of what was trained are held; after training one forward pass over at most `rows` rows a task for each alpha.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import exp
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator

from nacre.base.config import Settings
from nacre.base.progress import progress
from nacre.model.losses import answer_losses, text_losses
from nacre.records import Example
from nacre.train.protect.base import Protection, TrainingRows
from nacre.train.protect.plain import plain_weights

ALPHAS = tuple(tenth / 10 for tenth in range(11))
HALF_WAY = 0.5  # where nothing can be measured
LARGEST_HELD_OUT = 0.1  # share of the new rows: more would cost more skill than the search is worth


class Average(Protection):
    """Interpolate between the weights training began from and those it ended with."""

    name = "average"
    pictures = True
    tuners = ("full", "freeze", "lora", "qlora")
    stages = ("sft", "pt", "dpo", "kto")
    contradicts: ClassVar[dict[str, str]] = {
        "merge": "both move the result back towards the previous version",
        "block-expansion": "the version before has fewer blocks, so its weights cannot be averaged with these",
    }

    class Config(Settings):
        """Options of averaging."""

        alpha: float | None = Field(None, ge=0, le=1, description="share of the trained weights; default: searched for")
        alphas: tuple[float, ...] = Field(ALPHAS, min_length=1, description="shares that the search tries")
        rows: int = Field(50, ge=1, description="rows of each past task that the search looks at")
        held_out: int = Field(
            50, ge=1, description="new rows held out of training for the search; never more than a tenth of them"
        )

        @field_validator("alphas")
        @classmethod
        def _shares(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
            if any(not 0 <= alpha <= 1 for alpha in alphas):
                raise ValueError("every alpha must be from 0 to 1")
            return alphas

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Hold out a few new rows, where the search has past rows to weigh them against."""
        self._tasks: dict[str, Sequence[Example]] = {}
        if self.config.alpha is not None:
            return rows
        self._tasks = {
            task: sorted(kept, key=lambda row: row.content_id)[: self.config.rows]
            for task, past in self.context.memory.items()
            if (kept := [row for row in past if _scored(row)])
        }
        if not self._tasks:
            self.notes.append(f"average: no rows of past tasks to choose by, so alpha is {HALF_WAY}")
            return rows
        held = self._held_out(rows)
        if not held:
            self.notes.append("average: too few new rows to hold one out, so past tasks alone decide")
            return rows
        self._tasks["the new rows"] = list(held.values())
        left = [[row for row in part if row.content_id not in held] for part in _datasets(rows)]
        new = [row for part in left for row in part]
        gone = len(rows.new) - len(new)
        self.notes.append(f"average: {gone} of {len(rows.new)} new rows were not trained on, to choose alpha by")
        return replace(rows, new=new, datasets=tuple(map(len, left)) if rows.datasets else ())

    def _held_out(self, rows: TrainingRows) -> dict[str, Example]:
        """A part of each dataset's rows, by content: equal rows go together, so that none of them is trained on."""
        held: dict[str, Example] = {}
        for part in _datasets(rows):
            distinct = {row.content_id: row for row in part}
            count = int(min(LARGEST_HELD_OUT * len(distinct), self.config.held_out * len(part) / len(rows.new)))
            usable = sorted(key for key, row in distinct.items() if _scored(row))
            held |= {key: distinct[key] for key in usable[:count]}
        return held

    def model(self, model: Any) -> Any:
        """Remember where adapters begin; whole models are read again at the end."""
        self._start = {}
        if self.context.tune.name in ("lora", "qlora"):
            self._start = {
                name: weight.detach().to("cpu", copy=True)
                for name, weight in model.named_parameters()
                if weight.requires_grad
            }
        return model

    def finish(self, model: Any) -> Any:
        """Search, and leave the model at the best place."""
        begun = self._start or plain_weights(self.context.start)
        trained = _moved(model, begun)
        start = _with_trained_rows({name: begun[name] for name in trained}, trained)
        if not self._tasks:
            alpha = HALF_WAY if self.config.alpha is None else self.config.alpha
            interpolate(model, start, trained, alpha)
            self.notes.append(f"average: {alpha:g} of the trained weights, the rest of the starting ones")
            return model

        def score() -> float:
            return likelihood(model, self.context.tokenizer, self._tasks, self.context.max_length)

        found = line_search(model, start, trained, score, self.config.alphas)
        tried = ", ".join(f"{alpha:g}: {value:.3f}" for alpha, value in found.scores.items())
        self.notes.append(f"average: {found.alpha:g} of the trained weights, by likelihood per token ({tried})")
        return model


@dataclass(frozen=True)
class Search:
    """The alpha that was chosen, and the score of each that was tried."""

    alpha: float
    scores: Mapping[float, float]


def line_search(
    model: Any,
    start: Mapping[str, torch.Tensor],
    trained: Mapping[str, torch.Tensor],
    score: Callable[[], float],
    alphas: Sequence[float] = ALPHAS,
) -> Search:
    """Try every alpha on the line from `start` to `trained` and leave `model` at the best one.

    Args:
        model: has a parameter of each name in `start`; the others are left alone.
        start: tensors at alpha 0, by parameter name, on whatever device.
        trained: the same names at alpha 1.
        score: looks at the model as it then is; more is better. Of equal scores the largest alpha wins.
        alphas: places to try, each from 0 to 1.
    """
    scores = {}
    with progress("averaging", len(alphas)) as advance:
        for alpha in sorted(set(alphas)):
            interpolate(model, start, trained, alpha)
            scores[alpha] = score()
            advance(1)
    best = max(scores, key=lambda alpha: (scores[alpha], alpha))
    interpolate(model, start, trained, best)
    return Search(best, scores)


@torch.no_grad()
def interpolate(
    model: Any, start: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], alpha: float
) -> None:
    """Set every parameter that is named to (1 - alpha) * start + alpha * trained; exact at 0 and 1."""
    for name, weight in model.named_parameters():
        if name in start:
            begun, ended = start[name].to(weight.device), trained[name].to(weight.device)
            weight.copy_(begun * (1 - alpha) + ended * alpha)


def likelihood(model: Any, tokenizer: Any, tasks: Mapping[str, Sequence[Example]], max_length: int) -> float:
    """Mean over tasks of the mean over rows of exp(-loss per token): the geometric mean, over an answer's tokens, of
    the probability that the model gives them when it is told those before. From 0 to 1; nothing is generated.
    """
    means = []
    for rows in tasks.values():
        answered = [row for row in rows if row.kind != "text"]
        texts = [row.prompt[0].content for row in rows if row.kind == "text"]
        losses = answer_losses(model, tokenizer, answered, max_length) if answered else []
        losses += text_losses(model, tokenizer, texts, max_length) if texts else []
        each = [exp(-one.nll / one.tokens) for one in losses if one.tokens]
        means += [sum(each) / len(each)] if each else []
    return sum(means) / max(1, len(means))


def _datasets(rows: TrainingRows) -> list[Sequence[Example]]:
    """The new rows, by the dataset they come from where datasets are drawn apart."""
    ends = list(accumulate(rows.datasets or (len(rows.new),)))
    return [rows.new[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _scored(row: Example) -> bool:
    """Whether the row has an answer that a good model would give."""
    return (row.kind == "text" or bool(row.answers)) and row.desirable is not False


def _moved(model: Any, start: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies in main memory of the weights that are not as they were: what is frozen need be held but once."""
    return {
        name: weight.detach().to("cpu", copy=True)
        for name, weight in model.named_parameters()
        if name in start and not torch.equal(start[name].to(weight), weight)
    }


def _with_trained_rows(
    start: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """`start`, with trained rows of A where the column of B is zero: there A is chance and says nothing."""
    begun = dict(start)
    for name, A_RI in start.items():
        B_OR = start.get(name.replace("_A.", "_B."))
        if "_A." in name and B_OR is not None:
            unused_R = (B_OR == 0).all(dim=0)
            begun[name] = torch.where(unused_R[:, None], trained[name], A_RI)
    return begun

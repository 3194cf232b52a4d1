"""Experience replay: rows of past tasks mixed into every batch.

Source: Rolnick et al. 2019, "Experience Replay for Continual Learning" (arXiv 1811.11682); for language
models TRACE (arXiv 2310.06762). The share counts: 20 % of each batch keeps most of what joint training keeps.
The order `surprise` follows SuRe (arXiv 2511.22367): the rows that the model finds least likely are drawn more often.
Such rows are hard ones or wrong ones, so half of the draws stay uniform.
Cost: `share` / (1 - `share`) more rows than plain training; `surprise` also one forward pass over the kept rows
before it. While the budget's controller asks for a strength other than 1: the output layer once more for these rows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from nacre.base.config import Settings
from nacre.data.strata import choose, evenly
from nacre.records import Example
from nacre.train.losses import row_losses
from nacre.train.protect.base import MixIn, TrainingRows
from nacre.train.protect.mixing import Mixing

SURPRISING = 0.25  # of a task's rows, those that the order `surprise` gives half of the draws to


class Replay(Mixing):
    """Draw a share of every batch from the rows of past tasks, evenly over the tasks."""

    name = "replay"
    pictures = True
    aligns = True

    class Config(Settings):
        """Options of replay."""

        share: float = Field(0.2, gt=0, lt=1, description="share of every batch that is replayed rows")
        samples: int | None = Field(None, ge=1, description="use this many past rows, evenly over the tasks")
        budget: float | None = Field(None, gt=0, le=1, description="instead: use this share of each task's rows")
        per_class: int = Field(
            20, ge=0, description="rows that each class or cluster keeps whatever samples or budget say; 0: none"
        )
        order: Literal["uniform", "surprise", "forgotten-first"] = Field(
            "uniform",
            description="all rows of a task equally often; unlikely rows more often; tasks that lost score more often",
        )

        @model_validator(mode="after")
        def _one_of_both(self) -> "Replay.Config":
            if self.samples is not None and self.budget is not None:
                raise ValueError("give samples or budget, not both")
            return self

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Add the past rows as one stream, grouped by task."""
        tasks = {task: list(kept) for task, kept in self.context.memory.items() if kept}
        if not tasks:
            return rows
        tasks = self._kept(tasks)
        total = sum(len(kept) for kept in tasks.values())
        sizes = ", ".join(f"{task} {len(kept)}" for task, kept in tasks.items())
        self.notes.append(f"replay: {self.config.share:.0%} of every batch from {total} rows of past tasks ({sizes})")
        groups: tuple[Sequence[Example], ...] = tuple(tasks.values())
        weights: tuple[float, ...] = ()
        if self.config.order == "surprise":
            # every task's whole heap in turn, then every task's heap of unlikely rows: even over tasks, half and half
            groups = (*groups, *self._unlikely(tasks))
            self.notes.append(
                f"replay: half of it from the {SURPRISING:.0%} of each task that the model finds unlikely"
            )
        elif self.config.order == "forgotten-first":
            weights = self._by_lost_score(tasks)
        return self.mix(rows, MixIn("replay", self.config.share, groups, weights))

    def _kept(self, tasks: Mapping[str, list[Example]]) -> dict[str, list[Example]]:
        """The rows of each task that the budget leaves."""
        if self.config.samples is None and self.config.budget is None:
            return dict(tasks)
        sizes = [len(kept) for kept in tasks.values()]
        if self.config.samples is not None:
            budgets = evenly(sizes, self.config.samples)
        else:
            budgets = [max(1, round(self.config.budget * size)) for size in sizes]
        chosen = {
            task: choose(kept, budget, floor=self.config.per_class, seed=self.context.seed)
            for (task, kept), budget in zip(tasks.items(), budgets, strict=True)
        }
        classes, clusters = (sum(getattr(one, what) for one in chosen.values()) for what in ("classes", "clusters"))
        self.notes.append(
            f"replay: {sum(budgets)} of {sum(sizes)} past rows asked for, chosen by chance within {classes} classes "
            f"and {clusters} clusters"
        )
        if raised := sum(one.raised for one in chosen.values()):
            self.notes.append(
                f"replay: {raised} rows more than that are kept, because each class and cluster keeps "
                f"{self.config.per_class} rows, or all it has; per_class: 0 keeps to the number"
            )
        return {task: one.rows for task, one in chosen.items()}

    def _unlikely(self, tasks: Mapping[str, Sequence[Example]]) -> list[list[Example]]:
        """The rows of each task with the highest loss per token under the model that training starts from."""
        context = self.context
        rows = [row for kept in tasks.values() for row in kept]
        losses = iter(row_losses(context.start, context.tokenizer, context.max_length, rows))
        found = []
        for kept in tasks.values():
            of = [next(losses) for _ in kept]
            order = sorted(range(len(kept)), key=lambda place: (-of[place], kept[place].content_id))
            found.append([kept[place] for place in sorted(order[: math.ceil(SURPRISING * len(kept))])])
        return found

    def _by_lost_score(self, tasks: Mapping[str, Sequence[Example]]) -> tuple[float, ...]:
        """Half of the draws evenly over the tasks, half by the score that each lost; empty where nothing was lost."""
        lost = [max(0.0, self.context.weak.get(task, 0.0)) for task in tasks]
        if not sum(lost):
            known = "lost nothing in the last report" if self.context.weak else "have no report yet"
            self.notes.append(f"replay: past tasks {known}, so all are drawn equally often")
            return ()
        weights = tuple(0.5 / len(lost) + 0.5 * one / sum(lost) for one in lost)
        shown = ", ".join(f"{task} {weight:.0%}" for task, weight in zip(tasks, weights, strict=True))
        self.notes.append(f"replay: drawn by the score that the last report saw lost: {shown}")
        return weights

"""Looking at held-out rows while training: the increment's dev rows to see, train rows set aside to stop by.

The dev rows are what the gate judges by, so nothing is ever chosen by them: they are only written into the log.
Early stopping (Prechelt 1998, "Early Stopping - But When?") decides by train rows that are taken out for it, and
gives back the weights of the best moment. They lie in the run's folder, so that a run that was killed goes on with
them; the cost is one file of what trains, and at each validation one forward pass over the rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import save
from transformers import TrainerCallback

from nacre.base.errors import InputError
from nacre.base.files import atomic_write
from nacre.records import Example
from nacre.train import processes
from nacre.train.job import Job
from nacre.train.rows import Prepared
from nacre.train.sharding import CUTS_WEIGHTS, sharding_of
from nacre.train.stages.base import Measured, Stage

if TYPE_CHECKING:
    TrainerLike = Any  # a mixin calls what the Trainer after it in the chain has
else:
    TrainerLike = object

MAX_ROWS = 100  # of the dev rows: enough for a curve
LOOKS = 3  # at most, where nobody says how often: each costs a forward pass over the rows
HELD_SHARE, HELD_ROWS = 0.05, 16  # of the train rows, when they decide about stopping
DEV, HELD = "eval", "eval_held_out"  # the curves' names in the log, with _loss behind
BEST = "best-weights.safetensors"


class Validating(TrainerLike):
    """Mixin: `evaluate` is the mean loss of each held-out set, every token (or pair) of it counting alike.

    Between the protections and the trainer that has the stage's own loss, which must have `weight_of`.
    """

    def __init__(self, *args: Any, validation: Mapping[str, Dataset] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.validation = dict(validation or {})

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = DEV
    ) -> dict[str, float]:
        """Measure and log every held-out set; protections add nothing to these losses."""
        metrics = {
            f"{name}_loss": self._mean_loss(self.validation[name]) for name in (HELD, DEV) if name in self.validation
        }
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _mean_loss(self, rows: Dataset) -> float:
        model = self.model_wrapped
        model.eval()  # the trainer's next step puts it back
        self._metrics[
            "eval"
        ].clear()  # the stage's own curves are those of the last set: the dev rows, if there are any
        sums = torch.zeros(2, dtype=torch.float64)
        for batch in self.get_eval_dataloader(rows):
            inputs = self._prepare_inputs(batch)
            weight = self.weight_of(inputs)
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = float(self.compute_loss(model, inputs))
            sums += torch.tensor([loss * weight, weight], dtype=torch.float64)
        total, weights = self.accelerator.reduce(sums.to(self.accelerator.device)).tolist()
        return total / max(weights, 1)


class WhenToLook(TrainerCallback):
    """Asks for a validation every `steps` optimizer steps, and after the last."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.steps == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = True


class StopEarly(TrainerCallback):
    """Stops after `patience` validations without a lower loss on the rows set aside, and restores the best weights.

    All it knows is in the trainer's log and in one file beside the checkpoints, so a resumed run decides alike.
    """

    def __init__(self, patience: int, work: Path, notes: list[str]) -> None:
        self.patience = patience
        self.best = work / BEST
        self.notes = notes

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.best.unlink(missing_ok=True)  # of an earlier try, from before its first checkpoint

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        seen = _losses(state)
        lowest = min(seen, key=lambda step: seen[step])
        if lowest == state.global_step:
            trained = {name: weight.detach().cpu().contiguous() for name, weight in _trained(model)}
            if state.is_world_process_zero:
                atomic_write(self.best, save(trained, metadata={"step": str(state.global_step)}))
        elif sum(step > lowest for step in seen) >= self.patience:
            control.should_training_stop = True

    @torch.no_grad()
    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        processes.barrier()  # process 0 may still be writing
        if not self.best.exists():
            return
        seen = _losses(state)
        with safe_open(self.best, "pt") as kept:
            step = int(kept.metadata()["step"])
            for name, weight in _trained(model):
                weight.copy_(kept.get_tensor(name))
        ended = f"stopped after {state.global_step} of {state.max_steps} steps"
        whole = f"all {state.max_steps} steps were made"
        made = whole if state.global_step >= state.max_steps else ended
        self.notes.append(
            f"early stopping: {made}; the weights are those of step {step}, where the loss on the rows set aside was "
            f"lowest ({seen[step]:.4f}; at the end {seen[max(seen)]:.4f})"
        )


class Validation:
    """The held-out rows of one run, and when they are looked at.

    Attributes:
        notes: what was set aside, cut or decided by them.
        tables: what is evaluated, by the name of its curve.
    """

    def __init__(self, job: Job, held: Sequence[Example], notes: Sequence[str]) -> None:
        self.settings = job.recipe.train
        self.examples = {DEV: some_dev_rows(job.dev), HELD: list(held)}
        self.notes = list(notes)
        self.tables: dict[str, Dataset] = {}

    def encode(self, stage: Stage, tokenizer: Any, prepared: Prepared, model: Any, fresh: bool) -> Prepared:
        """Read the rows as the stage reads its own; returns the train rows with what the stage wants to know of both.

        `model` is still the one that training starts from, but for a new adapter if it is `fresh`.
        """
        asked = Measured(prepared.table, model, fresh, prepared.places)
        for name, rows in self.examples.items():
            told: list[str] = []
            table = stage.held_out(rows, tokenizer, told) if rows else None
            if table is not None:
                self.tables[name] = stage.measured(replace(asked, table=table, used=None))
            what = "dev rows looked at while training" if name == DEV else "rows set aside for early stopping"
            self.notes += [f"{what}: {note}" for note in told]
        return replace(prepared, table=stage.measured(asked))

    def callbacks(self, work: Path, prepared: Prepared) -> list[TrainerCallback]:
        """Who asks for validations, and who decides by them; nobody where no rows are held out."""
        if not self.tables:
            return []
        new = prepared.table["source"][:].count(0)
        passes = max(1.0, sum(place < new for place in prepared.places) / max(new, 1))
        patience = self.settings.early_stopping
        asked = self.settings.eval_steps
        # what decides looks after every pass
        looks = passes if patience is not None or asked == "epoch" else min(passes, LOOKS)
        steps = asked if isinstance(asked, int) else math.ceil(prepared.steps / looks)
        stop = [StopEarly(patience, work, self.notes)] if patience is not None and HELD in self.tables else []
        return [WhenToLook(steps), *stop]


def hold_out(job: Job) -> tuple[Job, Validation]:
    """The job without the rows that early stopping takes away, and what is validated.

    Raises:
        InputError: too few rows to give some away, weights that are cut over the processes, or ranks that change.
    """
    settings = job.recipe.train
    if settings.early_stopping is None:
        return job, Validation(job, (), ())
    if sharding_of(settings) in CUTS_WEIGHTS:
        raise InputError(
            "early stopping keeps the best weights, and here no process holds the whole model",
            where="train.early_stopping",
            fix="leave it out, or choose a sharding that leaves the weights whole",
        )
    if job.recipe.tune.name == "adalora":
        raise InputError(
            "adalora gives up ranks while it trains, so weights from an earlier step do not fit the ranks at the end",
            where="train.early_stopping",
            fix="leave it out, or tune with lora",
        )
    train, held, said = set_aside(job.new)
    return replace(job, new=train), Validation(job, held, [said])


def _losses(state: Any) -> dict[int, float]:
    """The loss on the rows set aside by step; what is no number is worse than anything."""
    found = {entry["step"]: entry[f"{HELD}_loss"] for entry in state.log_history if f"{HELD}_loss" in entry}
    return {step: loss if loss == loss else float("inf") for step, loss in found.items()}


def _trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    plain = getattr(model, "module", model)
    return [(name, weight) for name, weight in plain.named_parameters() if weight.requires_grad]


def some_dev_rows(rows: Sequence[Example]) -> list[Example]:
    """At most `MAX_ROWS` of the dev rows, always the same."""
    return sorted(rows, key=lambda row: row.content_id)[:MAX_ROWS]


def set_aside(rows: Sequence[Example]) -> tuple[list[Example], list[Example], str]:
    """(rows to train on, rows to stop by, what was done): a share of the distinct rows, those of the lowest hash.

    Raises:
        InputError: too few rows to give some away.
    """
    distinct = {row.content_id: row for row in rows}
    count = max(HELD_ROWS, round(HELD_SHARE * len(distinct)))
    if len(distinct) < 2 * count:
        raise InputError(
            f"early stopping needs {HELD_ROWS} rows that are not trained on, and there are {len(distinct)} rows",
            where="train.early_stopping",
            fix="leave it out; a small increment is short anyway",
        )
    chosen = set(sorted(distinct)[:count])
    train = [row for row in rows if row.content_id not in chosen]
    held = [distinct[content] for content in sorted(chosen)]
    return (
        train,
        held,
        f"early stopping: {count} of {len(rows)} train rows are not trained on, they decide when to stop",
    )

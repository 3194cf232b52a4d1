"""Elastic weight consolidation: weights that mattered to past tasks are held more firmly.

Source: Kirkpatrick et al. 2017 (arXiv 1612.00796), eq. 3: penalty = strength / 2 * sum_i F_i (w_i - c_i)^2.
F is the diagonal Fisher information: the mean over *examples* of the squared gradient of that example's
log-likelihood. (The square of a batch's mean gradient, common in public code, is another and far smaller quantity.)

Forms, both in two copies of the trained weights however many increments there are:
- `online` (Schwarz et al. 2018, arXiv 1805.06370, eq. 8 and 9): F <- gamma F + F of the last increment, and c is
  where training starts.
  With `balance`, each increment's F is scaled so that all weigh the same (section 4 there): the likelihood of long
  answers or of whole texts would else outweigh that of short answers many times over.
- `per-task`: one penalty for each increment around its own weights w_k, as in the first paper. Their sum is
  sum_k F_k (w - w_k)^2 = F (w - c)^2 + constant with F = sum_k F_k and c = sum_k F_k w_k / F, so nothing more is kept.

Where F comes from: at its end every increment measures it on its own new rows and keeps it beside the version, so
the next increment needs no old rows. Where the version before was trained without ewc, F is measured at the start on
rows of past tasks, and where there are none, on text that the starting model says unasked.

How it pulls: `gradient` adds strength * F * (w - c) in closed form after clipping, with a norm limit of its own;
Adam then divides it by the size of the whole gradient. `proximal` leaves the gradient alone and, after the
optimizer's step at rate lr, puts w where the penalty has its say: w <- (w + a c) / (1 + a) with a = lr * strength * F,
which is the exact proximal step (Parikh, Boyd 2014, "Proximal algorithms", section 6.1.1): it is stable at every
strength, needs no norm limit, and Adam does not weaken it where F is large.
No strength carries over from one model or task to another, nor from one way of pulling to the other: `auto` finds it
by a pilot (see `nacre.train.pilot`). The pilot is careful with the new task: with no old row, on four small
tasks in one order, a 0.7 M model kept an average accuracy of 0.21 where plain training kept 0.08 and joint training
0.60, and learned the new ones as well as plain.
A larger `tolerance` gives up new learning for more.
Cost: two copies of the trained weights (`per-task`: three) and one pass over them a step; forward and backward of
`samples` rows one by one after training, and before it where nothing was kept; the pilot's tries, 30 steps each.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file, save

from nacre.base.config import Settings
from nacre.base.files import atomic_write
from nacre.base.hashing import content_hash
from nacre.model.chat import Encoded
from nacre.records import Example
from nacre.train.pilot import Pilot, Rehearsal
from nacre.train.protect.after_step import AfterStep
from nacre.train.protect.base import Context, Protection, Step, TrainingRows
from nacre.train.protect.importance import (
    FOLDER,
    Tensors,
    add_pulls,
    copies,
    fisher,
    measurable,
    measurable_texts,
    read_kept,
    trained_weights,
    write_kept,
)

DECADES = (-2, 10)  # powers of ten that the pilot looks among


class Ewc(Protection):
    """Pull towards the weights training starts from, each by its importance to past tasks."""

    name = "ewc"
    pictures = True
    held_copies = 2
    stages = ("sft", "pt", "dpo", "kto")

    class Config(Settings):
        """Options of EWC."""

        strength: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
            "auto", description="weight of the pull; auto: by a pilot, because no value carries over between models"
        )
        samples: int = Field(100, ge=1, description="rows of an increment or past task that importance is measured on")
        fisher: Literal["empirical", "sampled"] = Field(
            "sampled", description="likelihood of the rows' own tokens (empirical), or of tokens drawn from the model"
        )
        form: Literal["online", "per-task"] = Field(
            "online", description="one pull to where training starts, or one to where each increment ended"
        )
        gamma: float = Field(1.0, gt=0, le=1, description="what each increment leaves of the older importance (online)")
        balance: bool = Field(True, description="scale the importance of each increment so that all weigh the same")
        apply: Literal["gradient", "proximal"] = Field(
            "proximal", description="add the pull to the gradient, or make it after the optimizer's step"
        )
        max_norm: float = Field(1.0, gt=0, description="limit of the pull's norm, where it is added to the gradient")
        tolerance: float = Field(
            0.05, gt=0, description="share of validation loss that the pilot may give for the pull"
        )

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._new: Sequence[Example] = ()
        self._importance: Tensors = {}
        self._strength = 0.0
        self._increments = 1.0  # that the importance stands for, faded ones less
        self._after = AfterStep(self._approach)
        self._pulled: tuple[float, dict[torch.Tensor, str]] = (0.0, {})

    @classmethod
    def copies_held(cls, config: Any) -> int:
        """One more where each increment has a centre of its own."""
        return cls.held_copies + (config.form == "per-task")

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Nothing is changed; the new rows are what importance is measured on in the end."""
        self._new = rows.new
        if rows.mixed_in and self.context.memory:
            self.notes.append(
                "ewc: where all old rows are replayed it mostly costs new learning: on a small model the average "
                "accuracy over four tasks was 0.50 with it and 0.60 without"
            )
        return rows

    def model(self, model: Any) -> Any:
        """Find the importance for the starting weights, and the strength."""
        self._centre = copies(model)
        source = self._find(model)
        if not self._importance:
            self.notes.append("ewc: there is neither a row of a past task nor text to measure on, so nothing is held")
            return model
        if self.config.strength == "auto":
            pilot = self._calibrate(model, source)
            self._strength = pilot.chosen
            told = "" if pilot.chosen else "; even the smallest costs more than it may, so nothing is held"
            self.notes.append(f"ewc: strength {pilot.chosen:.3g} by a pilot: {pilot}{told}")
        else:
            self._strength = self.config.strength
            self.notes.append(f"ewc: strength {self._strength:g}")
        return model

    def _find(self, model: Any) -> str:
        """Importance and centre for these weights; returns what identifies them, and says where they come from."""
        context, config = self.context, self.config
        kept = read_kept(context.folder, self.name, context.start, self._centre)
        if kept is not None:
            parts, told = kept
            self._importance, self._increments = parts["importance"], float(told["increments"])
            if config.form == "per-task":
                if "centre" in parts:
                    self._centre = parts["centre"]
                else:
                    self.notes.append("ewc: the increments before were not kept per task: the start stands for all")
            self.notes.append(f"ewc: importance kept by the increments before, measured on {told['measured on']}")
            return content_hash([told, context.start.identity])
        rows = [
            row
            for past in context.memory.values()
            for row in sorted(past, key=lambda row: row.content_id)[: config.samples]
        ]
        if rows:
            found = measurable(rows, context.tokenizer, context.max_length)
            what = f"{len(found)} rows of past tasks"
            self._increments = float(sum(bool(past) for past in context.memory.values()))
        else:
            texts = measurable_texts(context.generic(), context.tokenizer, context.max_length)
            found = texts[: config.samples]
            what = f"{len(found)} blocks of generic text, because no row of a past task is at hand"
        if not found:
            return ""
        key = self._key(found)
        path = context.folder / FOLDER / f"{key}.safetensors"
        if not path.exists():
            atomic_write(path, save(fisher(model, found, labels=config.fisher, seed=context.seed)))
        self._importance = {
            name: held.to(self._centre[name].device) for name, held in load_file(path).items() if name in self._centre
        }
        self.notes.append(f"ewc: importance measured on {what}")
        return key

    def _key(self, rows: Sequence[Encoded]) -> str:
        """Names the file by everything that decides its content; the seed makes the start of a new adapter."""
        shapes = {name: list(weight.shape) for name, weight in self._centre.items()}
        told = [self.context.start.identity, self.context.seed, self.context.max_length, shapes, self.config.fisher]
        return content_hash([*told, [[row.input_ids, row.labels] for row in rows]])

    def _calibrate(self, model: Any, source: str) -> Pilot:
        """The pilot's choice for these weights, rows and settings: made once, then read from its file."""
        settings = self.context.train
        told = [source, self.config.model_dump(mode="json"), settings.model_dump(mode="json")]
        key = content_hash([*told, [row.content_id for row in self._new]])
        path = self.context.folder / FOLDER / f"pilot-{key}.json"
        if path.exists():
            read = json.loads(path.read_text(encoding="utf-8"))
            return Pilot(**{**read, "losses": {float(one): loss for one, loss in read["losses"].items()}})

        def pull(strength: float, optimizer: torch.optim.Optimizer) -> None:
            self._pull(model, strength, optimizer)

        rows = measurable(self._new, self.context.tokenizer, self.context.max_length)
        found = Rehearsal(model, rows, settings, pull).run(DECADES, self.config.tolerance)
        atomic_write(path, json.dumps(asdict(found)))
        return found

    def gradient(self, model: Any, step: Step) -> None:
        """Add strength * F * (w - c), at most `max_norm` long; or have it done after the step."""
        if self._strength:
            self._pull(model, self._strength * self.scale, step.optimizer)

    @torch.no_grad()
    def _pull(self, model: Any, strength: float, optimizer: torch.optim.Optimizer) -> None:
        moving = {name: weight for name, weight in trained_weights(model).items() if weight.grad is not None}
        if self.config.apply == "proximal":
            self._pulled = strength, {weight: name for name, weight in moving.items()}
            self._after.hook(optimizer)
            return
        pulls = {
            name: (weight.detach() - self._centre[name]).mul_(self._importance[name])
            for name, weight in moving.items()
            if name in self._importance
        }
        add_pulls(moving, pulls, strength, self.config.max_norm)

    @torch.no_grad()
    def _approach(self, optimizer: torch.optim.Optimizer) -> None:
        """The proximal step: towards the centre, by a share that grows with rate, strength and importance."""
        strength, names = self._pulled
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if (name := names.get(weight)) in self._importance:
                    pull = self._importance[name] * (group["lr"] * strength)
                    weight.lerp_(self._centre[name].to(weight.dtype), (pull / (1 + pull)).to(weight.dtype))

    def saved(self, model: Any, folder: Path) -> None:
        """Measure the importance to this increment's own rows, and keep it with the older for the next increment.

        Nothing is kept where another protection has put other weights in the place of those that trained.
        """
        context, config = self.context, self.config
        if shapes(trained_weights(model)) != shapes(self._centre):
            self.notes.append(
                "ewc: the weights that trained were put together into others in the end, so no importance is handed "
                "on: the next increment measures it at its start"
            )
            return
        ranked = sorted(self._new, key=lambda row: row.content_id)[: config.samples]
        rows = measurable(ranked, context.tokenizer, context.max_length)
        newest = fisher(model, rows, labels=config.fisher, seed=context.seed)
        left = config.gamma if config.form == "online" else 1.0
        if config.balance and self._importance:
            newest = scaled_to(newest, _sum(self._importance) / self._increments)
        older = {name: left * held for name, held in self._importance.items()}
        importance = {name: held + older.get(name, torch.zeros_like(held)) for name, held in newest.items()}
        parts = {"importance": importance}
        if config.form == "per-task":
            ends = {name: weight.detach().float() for name, weight in trained_weights(model).items()}
            parts["centre"] = weighted_centre((older, self._centre), (newest, ends))
        measured = f"{len(rows)} rows of each ({config.fisher})"
        increments = left * self._increments + 1 if self._importance else 1.0
        write_kept(context.folder, self.name, folder, parts, {"measured on": measured, "increments": repr(increments)})


def shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each, by name."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def scaled_to(importance: Tensors, total: float) -> Tensors:
    """The same proportions, with a sum of `total`; unchanged, where all of it is 0."""
    now = _sum(importance)
    return {name: held * (total / now if now else 1.0) for name, held in importance.items()}


def _sum(importance: Mapping[str, torch.Tensor]) -> float:
    return sum(float(held.sum()) for held in importance.values())


def weighted_centre(
    older: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], newest: tuple[Tensors, Tensors]
) -> Tensors:
    """Where the sum of two quadratic pulls, each (importance, centre), has its own centre, weight by weight."""
    centre = {}
    for name, importance in newest[0].items():
        if name not in older[0]:
            centre[name] = newest[1][name]
            continue
        share = importance / (importance + older[0][name]).clamp(min=torch.finfo(torch.float32).tiny)
        centre[name] = torch.lerp(older[1][name].float(), newest[1][name], share)
    return centre

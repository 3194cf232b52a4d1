"""The one place that touches the Trainer: a mixin over `compute_loss` and a callback before the step.

Shapes: B rows, T tokens of a row, D hidden size.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch.nn import functional
from transformers import TrainerCallback
from trl import SFTTrainer

from nacre.model.chat import IGNORED
from nacre.model.head import next_token_logits
from nacre.model.vocabulary import Beside, answer_nll, frozen_head
from nacre.train import processes
from nacre.train.course import InTurn
from nacre.train.protect.base import Batch, Protection, Step, mixed_in_targets, predictable
from nacre.train.validation import Validating

LOOKED_AT = 4  # positions of the first batch whose logits are compared with the model's own
OTHER_LOGITS = "the model makes its logits in a way of its own, so they are its own, and all answers' are held at once"

if TYPE_CHECKING:
    TrainerLike = Any  # a mixin calls what the Trainer after it in the chain has
else:
    TrainerLike = object


class Protected(InTurn):
    """Mixin for any Trainer: adds the protections' terms to the loss and runs their gradient hooks."""

    def __init__(self, *args: Any, protections: Sequence[Protection] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.protections = tuple(protections)
        self.add_callback(BeforeStep(self.protections))
        self._step: dict[str, float] = {}

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of the next step; what a protection must know of all of them is counted here."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        sourced = [shown(batch) for batch in batches if "source" in batch and "labels" in batch]
        labelled = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in sourced)
        # counted over all processes, whose gradients are averaged: each has its part of the step's micro-batches
        self._step = {
            "micro_batch": processes.rank() - processes.world(),
            "micro_batches": len(batches) * processes.world(),
            "mixed_in_tokens": processes.total(sum(int(mixed_in_targets(batch).sum()) for batch in sourced)),
            "labelled_tokens": processes.total(labelled) if items is None else float(items),
            "predicted_tokens": processes.total(sum(int(predictable(batch).sum()) for batch in sourced)),
        }
        return batches, items

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card beside checkpoints: the cycle writes one where weights leave it, from all that is known of them."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The trainer's own loss, plus each protection's share of it for this micro-batch."""
        source_B = inputs.pop("source", None)
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._step["micro_batch"] += processes.world()
        kept = math.prod(p.keeps_loss for p in self.protections)
        known = {"step": self.state.global_step, "kept_loss": kept, **self._step}
        batch = {**shown({**inputs, "source": source_B}), **known}
        plain = self.accelerator.unwrap_model(model)
        with self.accelerator.autocast():
            batch["answer_term"], beside = self.beside_answers(plain, batch, num_items_in_batch)
        given = inputs if beside is None else {**inputs, "beside": beside}
        with last_hidden(plain) as seen:
            loss = super().compute_loss(model, given, num_items_in_batch=num_items_in_batch)
        hidden_BTD = seen[0][inputs["shown"]] if "shown" in inputs else seen[0]
        with self.accelerator.autocast():  # terms ask parts of the model, beside the forward that accelerate casts
            terms = [term for p in self.protections if (term := p.scaled_loss(plain, batch, hidden_BTD)) is not None]
        # A term is a mean over the micro-batch; where the trainer leaves the division by the number of
        # micro-batches to the loss, it must be made here, or accumulation would multiply the term.
        total = kept * loss + sum(terms) / self._micro_batches(num_items_in_batch)
        return (total, None) if return_outputs else total

    def beside_answers(self, model: Any, batch: Batch, items: Any) -> tuple[str, Beside | None]:
        """Whose term the stage's loss makes along with its own, and that term; here nobody's."""
        return "", None

    def _micro_batches(self, num_items_in_batch: Any) -> int:
        """The divisor that `Trainer.training_step` leaves out, by its own rule."""
        scaled = self.loss_is_scaled_for_ga
        if scaled is None:
            knows_items = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            scaled = knows_items or self.compute_loss_func is not None
        return self.current_gradient_accumulation_steps if scaled else 1


def shown(batch: Mapping[str, Any]) -> Batch:
    """What protections are shown of a batch. A stage with answers that are not to be imitated marks all other
    rows by `shown` [B]; then only those are to be seen, as rows of a supervised batch.
    """
    if "shown" not in batch:
        return batch
    return {key: batch[key][batch["shown"]] for key in ("input_ids", "attention_mask", "labels", "source")}


class BeforeStep(TrainerCallback):
    """Runs the gradient hooks: after clipping, before the optimizer reads the gradients."""

    def __init__(self, protections: Sequence[Protection]) -> None:
        self.protections = protections

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        step = Step(state.global_step, state.max_steps, getattr(optimizer, "optimizer", optimizer))
        plain = extract_model_from_parallel(model)  # DDP puts "module." before every name
        for protection in self.protections:
            protection.gradient(plain, step)


class SparseHead(TrainerLike):
    """Mixin: on a CPU, only the positions that have a label go through the head, and their scores are not kept.

    TRL's fused head does so on GPUs; on a CPU it scores every position, padding included, which is most of the
    step's cost. The loss is the same: the sum over labelled positions by the number of them in the whole step.

    Attributes:
        own_head: whether the head is called beside the model's forward pass (`nacre.model.vocabulary`); None: not
            tried yet. It is not where the first batch shows that the model makes its logits in another way, nor where
            no process holds the whole head.
        told: a sentence for the first of these.
    """

    own_head: bool | None = None
    told: tuple[str, ...] = ()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Next-token cross-entropy in nats over the labelled positions."""
        if inputs["input_ids"].device.type != "cpu" or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels_BT = inputs["labels"]
        targets_BT = torch.cat([labels_BT[:, 1:], torch.full_like(labels_BT[:, :1], IGNORED)], dim=1)
        wanted_BT = targets_BT != IGNORED
        beside = inputs.get("beside")
        total = self.answer_nll(model, inputs, wanted_BT, targets_BT[wanted_BT], beside).sum()
        if num_items_in_batch is None:
            return total / wanted_BT.sum().clamp(min=1)
        # the count is over all processes, and DDP averages the gradients over them
        return total * self.accelerator.num_processes / num_items_in_batch

    def answer_nll(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        wanted_BT: torch.Tensor,
        targets_P: torch.Tensor,
        beside: Beside | None = None,
    ) -> torch.Tensor:
        """Loss [P] of each labelled position in nats, with what some of them lose beside it."""
        given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
        if self.own_head is None and (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            self.own_head = False
        if self.own_head is False:
            logits_PV = model(**given, logits_to_keep=wanted_BT).logits
            return functional.cross_entropy(logits_PV.float().view(len(targets_P), -1), targets_P, reduction="none")
        shown_BT = torch.zeros_like(wanted_BT)
        if self.own_head is None:  # a few positions' logits are looked at
            rows_P, places_P = wanted_BT.nonzero(as_tuple=True)
            shown_BT[rows_P[:LOOKED_AT], places_P[:LOOKED_AT]] = True
        plain = self.accelerator.unwrap_model(model)
        with last_hidden(plain) as seen:
            logits_PV = model(**given, logits_to_keep=shown_BT).logits
        hidden_PD = seen[0][wanted_BT]
        if self.own_head is None and len(targets_P):
            with torch.no_grad(), self.accelerator.autocast():
                own_PV = next_token_logits(plain, hidden_PD[:LOOKED_AT])
            self.own_head = _same_logits(own_PV, logits_PV.view(len(own_PV), -1))
            if not self.own_head:
                self.told = (OTHER_LOGITS,)
                return self.answer_nll(model, inputs, wanted_BT, targets_P)
        with self.accelerator.autocast():
            return answer_nll(plain, hidden_PD, targets_P, beside)

    def weight_of(self, inputs: Mapping[str, Any]) -> int:
        """What a micro-batch counts for in a mean over rows that were held out: its labelled tokens."""
        return int((inputs["labels"][:, 1:] != IGNORED).sum())


def _same_logits(own_PV: torch.Tensor, models_PV: torch.Tensor) -> bool:
    """Whether two computations of the same logits agree but for rounding."""
    largest = models_PV.float().abs().max()
    close = 1e-4 if own_PV.dtype == torch.float32 else 2e-2
    return bool((own_PV.float() - models_PV.float()).abs().max() <= close * largest)


class ProtectedSFT(Protected, Validating, SparseHead, SFTTrainer):
    """TRL's supervised trainer with protections; also trains plain text (every token is a label)."""

    def beside_answers(self, model: Any, batch: Batch, items: Any) -> tuple[str, Beside | None]:
        """The first protection that has such a term, where the head does not train and is asked here."""
        device = batch["input_ids"].device.type
        askable = self.own_head and items is not None and batch["kept_loss"] and device == "cpu"
        if not askable or frozen_head(model, device) is None:
            return super().beside_answers(model, batch, items)
        for protection in self.protections:
            term = protection.answer_term(batch)
            if term is not None:
                labelled_BT = torch.zeros_like(batch["labels"], dtype=torch.bool)
                labelled_BT[:, :-1] = batch["labels"][:, 1:] != IGNORED
                one_label = batch["kept_loss"] * self.accelerator.num_processes / float(items)  # in the step's loss
                weight = term.weight / self._micro_batches(items) / one_label
                return protection.name, Beside(term.where_BT[labelled_BT], term.loss, weight)
        return super().beside_answers(model, batch, items)


class Collator:
    """Pad rows to the longest of the micro-batch: input_ids, attention_mask and labels [B, T], source [B]."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Stack the rows."""
        width = max(len(row["input_ids"]) for row in rows)

        def padded(key: str, filler: int) -> torch.Tensor:
            return torch.tensor([row[key] + [filler] * (width - len(row[key])) for row in rows])

        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        return {
            "input_ids": padded("input_ids", self.pad),
            "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
            "labels": padded("labels", IGNORED),
            "source": torch.tensor([row["source"] for row in rows]),
        }


@contextmanager
def last_hidden(model: Any) -> Iterator[list[torch.Tensor]]:
    """Catch the decoder's output, hidden_BTD with gradients, while the block runs.

    The trainers' fused heads never return logits, and what they do return on request was made without
    gradients, so a term built on it would teach nothing.
    """
    seen: list[torch.Tensor] = []
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    handle = causal.get_decoder().register_forward_hook(lambda module, given, out: seen.append(out.last_hidden_state))
    try:
        yield seen
    finally:
        handle.remove()

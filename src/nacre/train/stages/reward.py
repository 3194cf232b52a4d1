"""Learning to judge (rm): the model gives an answer a number, the chosen one a higher one than the rejected one.

Loss: -log sigmoid(number of the chosen - number of the rejected answer), Bradley and Terry's model (Ouyang et al.
2022, arXiv 2203.02155, eq. 1), by TRL's trainer. The number is one linear layer over the last token's hidden state;
it starts at random and is trained whole beside whatever the tuner trains.
Cost: one forward and backward over both answers. Such a model says no tokens: rows that are not pairs are left out,
and protections that compare next tokens cannot act.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from transformers import TrainingArguments
from trl import RewardConfig, RewardTrainer

from nacre.base.errors import InputError
from nacre.model.chat import IGNORED, Encoded
from nacre.records import Example, Train
from nacre.train import processes
from nacre.train.stages.base import Stage
from nacre.train.stages.pairs import encode_pairs
from nacre.train.stages.rows import UNWANTED, WANTED, Part, padded
from nacre.train.trainer import Protected
from nacre.train.validation import Validating

if TYPE_CHECKING:
    TrainerLike = Any  # a mixin calls what the Trainer after it in the chain has
else:
    TrainerLike = object


class RewardCollator:
    """Chosen answers, then the rejected ones: input_ids and attention_mask [B, T], source [B]; no label anywhere."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Stack the rows."""
        sides = (("input_ids", WANTED), ("rejected_ids", UNWANTED))
        parts = [Part(row[ids], [IGNORED] * len(row[ids]), row["source"], role) for ids, role in sides for row in rows]
        found = padded(parts, self.pad)
        return {name: found[name] for name in ("input_ids", "attention_mask", "labels", "source")}


class PartOfStep(TrainerLike):
    """Mixin over TRL's reward trainer: its mean over a micro-batch, weighted by the pairs in it.

    So that a step's loss is the mean over its pairs, however it is cut.
    """

    loss_is_scaled_for_ga = True

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of the next step, and how many pairs all of them have, over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._pairs = processes.total(sum(map(self.weight_of, batches)))
        return batches, None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's part of the step's loss; outside training, the loss of the batch by itself."""
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        loss = super().compute_loss(model, given)
        if model.training:
            loss = loss * (self.weight_of(inputs) * self.accelerator.num_processes / self._pairs)
        return (loss, None) if return_outputs else loss

    def weight_of(self, inputs: Mapping[str, Any]) -> int:
        """How many pairs a micro-batch has."""
        return len(inputs["input_ids"]) // 2


class ProtectedReward(Protected, Validating, PartOfStep, RewardTrainer):
    """TRL's reward trainer with protections."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The rows come tokenised and shortened."""
        return dataset


class Reward(Stage):
    """Preference pairs, for a model that judges."""

    arguments: ClassVar[type[TrainingArguments]] = RewardConfig
    rewards = True

    def options(self, settings: Train) -> dict[str, Any]:
        """Dropout stays as the tuner says."""
        return {"disable_dropout": False, "max_length": None}

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]
    ) -> Sequence[Encoded]:
        """Pairs alone.

        Raises:
            InputError: none of the rows is a pair.
        """
        pairs = [row for row in examples if row.kind == "preference"]
        if examples and not pairs:
            raise InputError(
                "a reward model learns from preference pairs, and these rows are none",
                where="train.stage: rm",
                fix="give pairs, and leave out protections that replay rows of other kinds",
            )
        if len(pairs) < len(examples):
            notes.append(f"{len(examples) - len(pairs)} rows are no pairs, which a reward model cannot learn from")
        return encode_pairs(pairs, tokenizer, max_length, notes)

    def trainer(self, **given: Any) -> Any:
        """TRL's reward trainer, protected."""
        return ProtectedReward(data_collator=RewardCollator(given["processing_class"].pad_token_id), **given)

"""What the protections share that mix rows into every batch: a stream of their own, and how strongly it counts."""

from typing import Any

import torch
from torch.nn import functional

from nacre.model.chat import IGNORED
from nacre.model.head import next_token_logits
from nacre.train.protect.base import Batch, MixIn, Protection, TrainingRows

SUPERVISED = ("sft", "pt")  # stages whose loss is the cross-entropy of labelled tokens


class Mixing(Protection):
    """A protection whose rows are drawn beside the new ones.

    Its strength, once training runs, is the weight of its rows: at `scale` s their cross-entropy counts s times.
    """

    _source = 0  # which stream of the batch is its own; 0 is the new rows

    def mix(self, rows: TrainingRows, mix_in: MixIn) -> TrainingRows:
        """`rows` with a stream more, which is remembered as this protection's."""
        self._source = len(rows.mixed_in) + 1
        return rows.with_rows(mix_in)

    def scaled_loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """`loss`, and what makes the rows of this stream count `scale` times; nothing is computed at scale 1.

        The trainer's loss is the sum over labelled tokens by their number in the whole step, so the difference is
        (scale - 1) times the sum over this stream's labelled tokens by the same number; and as much of it as the
        protections leave of the trainer's loss (`kept_loss`), or a weight could become negative.
        """
        term = self.loss(model, batch, hidden_BTD)
        if self.scale == 1 or not self._source:
            return term
        if self.context.stage not in SUPERVISED:
            said = (
                f"{self.name}: its rows count as much as the others: in stage {self.context.stage} nothing steers that"
            )
            self.notes += [] if said in self.notes else [said]
            return term
        own_B = batch["source"] == self._source
        targets_BT = batch["labels"][own_B][:, 1:]
        where_BT = targets_BT != IGNORED
        if not where_BT.any() or not batch["kept_loss"]:
            return term
        extra = (self.scale - 1) * summed_loss(model, hidden_BTD[own_B][:, :-1], targets_BT, where_BT)
        extra = extra * batch["kept_loss"] * batch["micro_batches"] / batch["labelled_tokens"]
        return extra if term is None else term + extra


def summed_loss(model: Any, hidden_BTD: torch.Tensor, targets_BT: torch.Tensor, where_BT: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies, in nats, of `targets_BT` at the positions where `where_BT` is true."""
    logits_PV = next_token_logits(model, hidden_BTD[where_BT])
    return functional.cross_entropy(logits_PV.float(), targets_BT[where_BT], reduction="sum")

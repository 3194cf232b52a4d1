"""The replayed rows of a micro-batch, as terms on their answers need them.

Shapes: B rows, T tokens of a row, D hidden size, P supervised positions of the replayed rows, V vocabulary.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from nacre.model.head import next_token_logits
from nacre.train.protect.base import Batch, mixed_in_targets


@dataclass(frozen=True)
class Replayed:
    """What the new version says about the replayed rows' answers, and where they stand.

    Attributes:
        model: the new version; `hidden_PD` its states at the positions that predict a token of an answer.
        input_ids_BT: the replayed rows; `attention_mask_BT` with them.
        where_BT: the positions that predict a token of an answer.
        targets_P: those tokens.
        part: weight of a mean over these positions, so that the mean over the micro-batches of a step is the mean
            over all replayed positions of the step.
    """

    model: Any
    hidden_PD: torch.Tensor
    input_ids_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    where_BT: torch.Tensor
    targets_P: torch.Tensor
    part: float

    @cached_property
    def student_PV(self) -> torch.Tensor:
        """The new version's logits, with gradients."""
        return next_token_logits(self.model, self.hidden_PD)


def replayed_in(model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> Replayed | None:
    """The replayed part of a micro-batch; None, where it has none."""
    old_B = batch["source"] > 0
    where_BT = mixed_in_targets(batch)[old_B]
    if not where_BT.any():
        return None
    return Replayed(
        model=model,
        hidden_PD=hidden_BTD[old_B][where_BT],
        input_ids_BT=batch["input_ids"][old_B],
        attention_mask_BT=batch["attention_mask"][old_B],
        where_BT=where_BT,
        targets_P=batch["labels"][old_B][:, 1:][where_BT[:, :-1]],
        part=int(where_BT.sum()) * batch["micro_batches"] / batch["mixed_in_tokens"],
    )

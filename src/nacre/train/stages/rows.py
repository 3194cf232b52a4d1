"""What the preference stages share: rows with a part each in the batch, and one pass of the model over all of them.

A batch holds the stage's own rows and, beside them, the supervised rows that a protection mixes in, so that the
share of replayed rows means the same in every stage: each row counts for one. The loss of an optimizer step is

    (sum of the own rows' losses + kept rows * mean cross-entropy of the kept rows' tokens) / all rows,

however the step is cut into micro-batches. Protections are shown the rows that are to be imitated, as a supervised
batch: kept rows, and of the stage's own the chosen or good answers.
Cost: one forward and backward over all answers; the reference asks nothing while training, because what the
starting version says of each row is measured once before, in one forward pass over the rows that will be used. So
there is no second model in memory.

Shapes: B rows of the micro-batch, T tokens, V vocabulary, N labelled positions.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from datasets import Dataset

from nacre.model.chat import IGNORED, Encoded
from nacre.model.losses import last_answer, sequence_losses
from nacre.model.prompts import as_it_began
from nacre.records.recipe import Preference
from nacre.train import processes
from nacre.train.stages.base import Measured
from nacre.train.stages.losses import Side
from nacre.train.trainer import SparseHead

KEPT, WANTED, UNWANTED = 0, 1, 2  # what a row of a batch is: mixed in beside the stage's own, to imitate, to avoid


class Part(NamedTuple):
    """One sequence of a batch: tokens, labels, where it came from, what it is, and what the start says of it."""

    input_ids: list[int]
    labels: list[int]
    source: int
    role: int
    start: float = 0.0


def padded(parts: Sequence[Part], pad: int) -> dict[str, torch.Tensor]:
    """input_ids, attention_mask and labels [B, T]; source, role, start and shown [B]."""
    width = max(len(part.input_ids) for part in parts)
    lengths = torch.tensor([len(part.input_ids) for part in parts])
    role = torch.tensor([part.role for part in parts])
    return {
        "input_ids": torch.tensor([part.input_ids + [pad] * (width - len(part.input_ids)) for part in parts]),
        "attention_mask": (torch.arange(width) < lengths[:, None]).long(),
        "labels": torch.tensor([part.labels + [IGNORED] * (width - len(part.labels)) for part in parts]),
        "source": torch.tensor([part.source for part in parts]),
        "role": role,
        "start": torch.tensor([part.start for part in parts]),
        "shown": role != UNWANTED,
    }


def answer_only(row: Encoded) -> list[int]:
    """The labels of the row's last answer: a preference says nothing about earlier turns."""
    return last_answer(row.labels)


def with_start(measured: Measured, columns: Mapping[str, tuple[str, str]], own: str) -> Dataset:
    """The table with what the starting version says of its answers, in nats: a column for each of `columns`.

    `columns`: the new column's name to those of the tokens and the labels. Rows that are not asked about get 0, and so
    do those that are none of the stage's own, whose column `own` is empty.
    """
    table, model = measured.table, measured.model
    used = range(len(table)) if measured.used is None else set(measured.used)
    wanted = [place for place, ids in enumerate(table[own]) if ids and place in used]
    rows = table.select(wanted)
    for name, (ids, labels) in columns.items():
        with as_it_began(model, measured.fresh):
            found = sequence_losses(model, list(zip(rows[ids], rows[labels], strict=True)))
        values = [0.0] * len(table)
        for place, (nll, _) in zip(wanted, found, strict=True):
            values[place] = -nll
        table = table.add_column(name, values)
    return table


class Whole(NamedTuple):
    """An optimizer step's counts over all micro-batches and processes: rows, kept rows, kept rows' labelled tokens."""

    rows: int
    kept: int
    kept_tokens: int


class RowLosses(SparseHead):
    """Mixin over TRL's supervised trainer: the loss is one number for each row, and the kept rows' cross-entropy.

    A subclass gives `own_losses` and `own_rows`.
    """

    loss_is_scaled_for_ga = True  # parts of a sum over the step, not means

    def __init__(self, *args: Any, preference: Preference, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.preference = preference
        self._whole = Whole(0, 0, 0)

    @abstractmethod
    def own_rows(self, inputs: Mapping[str, Any]) -> int:
        """How many rows of the stage's own kind a micro-batch has."""

    @abstractmethod
    def own_losses(self, model: Any, inputs: Mapping[str, Any], said: Side) -> torch.Tensor:
        """The loss of each of them, from what the model said of every row."""

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of the next step, counted. No number of items: tokens are not what the loss is over."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._whole = Whole(*(processes.total(count) for count in self._counts(batches)))
        return batches, None

    def _counts(self, batches: Sequence[Mapping[str, Any]]) -> Whole:
        kept = [batch["labels"][batch["role"] == KEPT] for batch in batches]
        count = sum(len(labels_BT) for labels_BT in kept)
        tokens = sum(int((labels_BT[:, 1:] != IGNORED).sum()) for labels_BT in kept)
        return Whole(count + sum(map(self.own_rows, batches)), count, tokens)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's part of the step's loss; outside training, the loss of the batch by itself."""
        whole = self._whole if model.training else self._counts([inputs])
        said = self.log_probabilities(model, inputs)
        total = said.logs.sum() * 0.0
        if self.own_rows(inputs):
            total = total + self.own_losses(model, inputs, said).sum() / whole.rows
        if whole.kept:
            kept = said.logs[inputs["role"] == KEPT].sum()
            total = total - kept / max(whole.kept_tokens, 1) * (whole.kept / whole.rows)
        if model.training:
            total = total * self.accelerator.num_processes  # whose gradients are averaged
        return (total, None) if return_outputs else total

    def log_probabilities(self, model: Any, inputs: Mapping[str, Any], prefix: str = "") -> Side:
        """What the model says of each row's labelled tokens, in nats. [B]

        On a CPU only the labelled positions are scored, a few hundred at a time; elsewhere TRL's fused head does so.
        """
        ids_BT, labels_BT = inputs[f"{prefix}input_ids"], inputs[f"{prefix}labels"]
        given = {"input_ids": ids_BT, "attention_mask": inputs[f"{prefix}attention_mask"]}
        targets_BT = torch.cat([labels_BT[:, 1:], torch.full_like(labels_BT[:, :1], IGNORED)], dim=1)
        wanted_BT = targets_BT != IGNORED
        if ids_BT.device.type == "cpu":
            nll_N = self.answer_nll(model, given, wanted_BT, targets_BT[wanted_BT])
            logs_B = nll_N.new_zeros(len(ids_BT)).index_add(0, wanted_BT.nonzero()[:, 0], -nll_N)
        else:
            found = model(**given, use_cache=False, labels=labels_BT, fused_lm_head=True)
            logs_B = found.log_probs.float().sum(1)
        return Side(logs_B, wanted_BT.sum(1), inputs[f"{prefix}start"].to(logs_B))

    def weight_of(self, inputs: Mapping[str, Any]) -> int:
        """What a micro-batch counts for in a mean over rows that were held out: its rows."""
        return self._counts([inputs]).rows

    def note_curve(self, name: str, value: torch.Tensor) -> None:
        """Have the mean of `value` logged under `name` with the next line of the log."""
        mode = "train" if self.model.training else "eval"
        self._metrics[mode][name].append(float(value.detach().float().mean()))

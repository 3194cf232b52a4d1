"""Learning from pairs (dpo): the chosen answer is to become likelier than the rejected one, by one of five losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from trl import SFTTrainer

from nacre.model.chat import IGNORED, Encoded
from nacre.records import Example
from nacre.train.rows import encode_one, encode_rows
from nacre.train.stages.base import Measured
from nacre.train.stages.losses import PAIR_LOSSES, WITHOUT_START, Side
from nacre.train.stages.rows import KEPT, UNWANTED, WANTED, Part, RowLosses, answer_only, padded, with_start
from nacre.train.stages.supervised import Supervised
from nacre.train.trainer import Protected
from nacre.train.validation import Validating


@dataclass(frozen=True)
class Pair(Encoded):
    """A prompt with its chosen answer, and with its rejected one; none of the latter makes it a supervised row."""

    rejected_ids: list[int] = field(default_factory=list)
    rejected_labels: list[int] = field(default_factory=list)


def encode_pairs(examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]) -> list[Pair]:
    """Preference rows as pairs, the others as supervised rows. Shortened and unusable ones go into `notes`.

    Raises:
        InputError: the chat template refuses a row; names its file and line.
    """
    asked = [row for row in examples if row.kind == "preference"]
    pairs = [(encode_one(row, tokenizer, max_length), encode_one(_turned(row), tokenizer, max_length)) for row in asked]
    usable = [(one, other) for one, other in pairs if _has_answer(one) and _has_answer(other)]
    if shortened := sum(bool(one.cut or other.cut) for one, other in usable):
        notes.append(f"{shortened} of {len(usable)} pairs were longer than {max_length} tokens and were shortened")
    if len(usable) < len(pairs):
        notes.append(f"{len(pairs) - len(usable)} pairs were left out: no token of an answer in them")
    supervised = encode_rows([row for row in examples if row.kind != "preference"], tokenizer, max_length, notes)
    found = [
        Pair(one.input_ids, answer_only(one), max(one.cut, other.cut), other.input_ids, answer_only(other))
        for one, other in usable
    ]
    return [*found, *(Pair(row.input_ids, row.labels, row.cut) for row in supervised)]


def _turned(row: Example) -> Example:
    return row.changed(answers=row.answers[::-1])


def _has_answer(row: Encoded) -> bool:
    return any(label != IGNORED for label in row.labels[1:])


class PairCollator:
    """Chosen answers, then the rejected ones in the same order, then supervised rows, as `padded` describes."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Stack the rows."""
        pairs = [row for row in rows if row["rejected_ids"]]
        parts = [
            *(Part(row["input_ids"], row["labels"], row["source"], WANTED, row.get("start", 0.0)) for row in pairs),
            *(
                Part(row["rejected_ids"], row["rejected_labels"], 0, UNWANTED, row.get("rejected_start", 0.0))
                for row in pairs
            ),
            *(Part(row["input_ids"], row["labels"], row["source"], KEPT) for row in rows if not row["rejected_ids"]),
        ]
        return padded(parts, self.pad)


class PairLosses(RowLosses):
    """Mixin: the loss of each pair by the name in `preference.loss`."""

    def own_rows(self, inputs: Mapping[str, Any]) -> int:
        """How many pairs there are."""
        return int((inputs["role"] == WANTED).sum())

    def own_losses(self, model: Any, inputs: Mapping[str, Any], said: Side) -> torch.Tensor:
        """[P], and what shows in the log whether preferences are learned."""
        how = self.preference
        chosen = Side(*(of_B[inputs["role"] == WANTED] for of_B in said))
        rejected = Side(*(of_B[inputs["role"] == UNWANTED] for of_B in said))
        margin_P = chosen.gained - rejected.gained
        if how.loss in WITHOUT_START:
            margin_P = chosen.mean - rejected.mean
        self.note_curve("rewards/margins", how.beta * margin_P)
        self.note_curve("rewards/accuracies", margin_P > 0)
        losses_P = PAIR_LOSSES[how.loss](how, chosen, rejected)
        return losses_P - how.sft_weight * chosen.mean if how.sft_weight else losses_P


class ProtectedPairs(Protected, Validating, PairLosses, SFTTrainer):
    """TRL's supervised trainer with a loss over pairs, and with protections."""


class Pairs(Supervised):
    """Preference pairs; rows of other kinds that are mixed in stay supervised rows."""

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]
    ) -> Sequence[Encoded]:
        """Pairs, and supervised rows for what is none."""
        return encode_pairs(examples, tokenizer, max_length, notes)

    def measured(self, asked: Measured) -> Dataset:
        """With the starting version's log-probabilities of both answers, if the loss compares with them."""
        if self.settings.preference.loss in WITHOUT_START:
            return asked.table
        columns = {"start": ("input_ids", "labels"), "rejected_start": ("rejected_ids", "rejected_labels")}
        return with_start(asked, columns, own="rejected_ids")

    def trainer(self, **given: Any) -> Any:
        """The supervised trainer with the loss of pairs, protected."""
        collator = PairCollator(given["processing_class"].pad_token_id)
        return ProtectedPairs(data_collator=collator, preference=self.settings.preference, **given)

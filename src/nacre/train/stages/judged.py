"""Learning from single judged answers (kto): good ones become likelier, bad ones less likely.

The loss measures how much likelier an answer became against how much likelier anything became, an estimate of
KL(model || start): the mean gain of answers that belong to other prompts. Each row has one such answer, another
prompt's, and the estimate is made over all rows of an optimizer step, however it is cut into micro-batches.
Cost: beside what `rows` says, one forward pass over the rows with the other answers at every step.
"""

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
from nacre.train.stages.losses import Side, kto
from nacre.train.stages.rows import (
    KEPT,
    UNWANTED,
    WANTED,
    Part,
    RowLosses,
    answer_only,
    padded,
    with_start,
)
from nacre.train.stages.supervised import Supervised
from nacre.train.trainer import Protected
from nacre.train.validation import Validating

OTHER = "other_"  # before the names of what belongs to the other prompts' answers


@dataclass(frozen=True)
class Judgement(Encoded):
    """A prompt with an answer that was judged (or, `role` KEPT, a supervised row), and with another prompt's answer."""

    role: int = KEPT
    other_ids: list[int] = field(default_factory=list)
    other_labels: list[int] = field(default_factory=list)


def encode_judged(examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]) -> list[Judgement]:
    """Judged answers, the other rows as supervised ones. Shortened and unusable ones go into `notes`.

    Raises:
        InputError: the chat template refuses a row; names its file and line.
    """
    asked = [row for row in examples if row.kind == "kto"]
    encoded = [(row, encode_one(row, tokenizer, max_length)) for row in asked]
    usable = [(row, one) for row, one in encoded if any(label != IGNORED for label in one.labels[1:])]
    if shortened := sum(one.cut > 0 for _, one in usable):
        notes.append(
            f"{shortened} of {len(usable)} judged rows were longer than {max_length} tokens and were shortened"
        )
    if len(usable) < len(asked):
        notes.append(f"{len(asked) - len(usable)} judged rows were left out: no token of an answer in them")
    others = _others([row for row, _ in usable])
    if usable and others is None:
        notes.append("the judged rows share one prompt: how much likelier anything becomes is seen on its own answers")
    found = []
    for place, (row, one) in enumerate(usable):
        successor = usable[others[place] if others else (place + 1) % len(usable)][0]
        other = encode_one(row.changed(answers=successor.answers), tokenizer, max_length)
        role = WANTED if row.desirable else UNWANTED
        found.append(Judgement(one.input_ids, answer_only(one), one.cut, role, other.input_ids, answer_only(other)))
    supervised = encode_rows([row for row in examples if row.kind != "kto"], tokenizer, max_length, notes)
    return [*found, *(Judgement(row.input_ids, row.labels, row.cut) for row in supervised)]


def _others(rows: Sequence[Example]) -> list[int] | None:
    """For each row the place of one with another prompt; None where all have the same.

    With the rows of a prompt side by side, the row so many places on as the widest prompt has rows belongs to another
    one, and good and bad answers meet good and bad ones alike. Where one prompt has more than half of all rows, its
    last ones would come round to it again, and take the others' in turn.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        asked = (row.system, row.tools, *((turn.role, turn.content) for turn in row.prompt))
        groups.setdefault(asked, []).append(place)
    if len(groups) < 2:
        return None
    order = [place for places in groups.values() for place in places]
    widest = max(groups.values(), key=len)
    inside = set(widest)
    outside = [place for place in order if place not in inside]
    found = [0] * len(rows)
    for at, place in enumerate(order):
        other = order[(at + len(widest)) % len(order)]
        found[place] = outside[at % len(outside)] if place in inside and other in inside else other
    return found


class JudgedCollator:
    """Rows as `padded` describes, and beside them, named `other_…`, the prompts with other prompts' answers."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Stack the rows."""
        parts = [
            Part(
                row["input_ids"],
                row["labels"],
                0 if row["role"] == UNWANTED else row["source"],
                row["role"],
                row.get("start", 0.0),
            )
            for row in rows
        ]
        others = [
            Part(row["other_ids"], row["other_labels"], 0, UNWANTED, row.get("other_start", 0.0))
            for row in rows
            if row["role"] != KEPT
        ]
        beside = padded(others, self.pad) if others else {}
        return {**padded(parts, self.pad), **{f"{OTHER}{name}": tensor for name, tensor in beside.items()}}


class JudgedLosses(RowLosses):
    """Mixin: the loss of each judged answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drift = 0.0

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The micro-batches of the next step, and over all of them how much likelier anything became."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._drift = self._drift_over(self.model_wrapped, batches, everywhere=True)
        return batches, items

    def own_rows(self, inputs: Mapping[str, Any]) -> int:
        """How many judged answers there are."""
        return int((inputs["role"] != KEPT).sum())

    def own_losses(self, model: Any, inputs: Mapping[str, Any], said: Side) -> torch.Tensor:
        """[J], and what shows in the log whether the judgements are learned."""
        own_B = inputs["role"] != KEPT
        answers, good_J = Side(*(of_B[own_B] for of_B in said)), inputs["role"][own_B] == WANTED
        drift = self._drift if model.training else self._drift_over(model, [inputs])
        for name, which_J in (("rewards/chosen", good_J), ("rewards/rejected", ~good_J)):
            if which_J.any():
                self.note_curve(name, self.preference.beta * answers.gained[which_J])
        return kto(self.preference, answers, good_J, torch.tensor(drift, device=said.logs.device))

    @torch.no_grad()
    def _drift_over(self, model: Any, batches: Sequence[Mapping[str, Any]], everywhere: bool = False) -> float:
        """Mean gain of the other prompts' answers, in nats an answer, not below 0; `everywhere`: in all processes."""
        training = model.training
        model.eval()
        sums = torch.zeros(2)
        for batch in batches:
            if f"{OTHER}labels" in batch:
                gained_J = self.log_probabilities(model, self._prepare_inputs(dict(batch)), OTHER).gained
                sums += torch.tensor([float(gained_J.sum()), len(gained_J)])
        model.train(training)
        if everywhere:
            sums = self.accelerator.reduce(sums.to(self.accelerator.device))
        total, count = sums.tolist()
        return max(0.0, total / max(count, 1))


class ProtectedJudged(Protected, Validating, JudgedLosses, SFTTrainer):
    """TRL's supervised trainer with a loss over judged answers, and with protections."""


class Judged(Supervised):
    """Judged answers; rows of other kinds that are mixed in stay supervised rows."""

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]
    ) -> Sequence[Encoded]:
        """Judged answers, and supervised rows for what is none."""
        return encode_judged(examples, tokenizer, max_length, notes)

    def measured(self, asked: Measured) -> Dataset:
        """With the starting version's log-probabilities of the answers, their own and the others'."""
        columns = {"start": ("input_ids", "labels"), "other_start": ("other_ids", "other_labels")}
        return with_start(asked, columns, own="other_ids")

    def trainer(self, **given: Any) -> Any:
        """The supervised trainer with the loss of judged answers, protected."""
        collator = JudgedCollator(given["processing_class"].pad_token_id)
        return ProtectedJudged(data_collator=collator, preference=self.settings.preference, **given)

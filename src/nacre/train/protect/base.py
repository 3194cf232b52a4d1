"""What a protection is: it acts at up to five moments of a run and overrides only those it needs.

Shapes: B rows, T tokens of a row, D hidden size, V vocabulary, P supervised positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from nacre.base.config import Settings
from nacre.model.chat import IGNORED
from nacre.model.pictures import FIRST
from nacre.model.vocabulary import Loss
from nacre.records import Example, Train, Tune, Weights
from nacre.records.tune import Full

Batch = Mapping[str, Any]
"""One micro-batch: input_ids_BT, attention_mask_BT, labels_BT, source_B (0: new row, k: the k-th of what is mixed in).

And of the optimizer step it belongs to: `step`, its number; `micro_batch` of `micro_batches`, counted from 0;
`mixed_in_tokens`, how many labelled tokens the mixed-in rows of all its micro-batches have; `labelled_tokens`,
how many all rows have together; `predicted_tokens`, how many words there are to predict, labelled or not;
`kept_loss`, what the protections leave of the trainer's own loss, see `keeps_loss`; `answer_term`, the name of the
protection whose `answer_term` the stage makes itself.
Where several processes train, the step's micro-batches are those of all of them, numbered and counted through.
"""


@dataclass(frozen=True)
class Context:
    """What a protection may know of the run.

    Attributes:
        start: the weights that training starts from.
        previous: the version whose abilities are to be kept: the champion, or the base model at first.
        memory: rows of each past task, oldest first.
        generic: unlabelled text of no particular task.
        teacher: gives the previous version, frozen, for asking it; loaded at the first call only.
        folder: where files with lineage are kept between increments.
        tune: which parameters train.
        stage: what rows teach: sft, pt, rm, dpo, kto.
        train: the optimiser's settings, every `auto` decided.
        weak: past tasks by how much of their score the last report saw lost; empty where nothing is known.
        general: the user's own general data, if there is any.
        task: name of the task that the new rows teach; empty where nobody gave it one.
        learned: earlier increments taught something, even where none of their rows was kept.
    """

    start: Weights
    previous: Weights
    memory: Mapping[str, Sequence[Example]]
    generic: Callable[[], Sequence[str]]
    teacher: Callable[[], "Teacher"]
    tokenizer: Any
    max_length: int
    folder: Path
    seed: int = 0
    tune: Tune = field(default_factory=Full)
    stage: str = "sft"
    train: Train = field(default_factory=Train)
    weak: Mapping[str, float] = field(default_factory=dict)
    general: Path | None = None
    task: str = ""
    learned: bool = False


@dataclass(frozen=True)
class Step:
    """The optimizer step that is about to be made: the `number`-th, counted from 0, of `total`."""

    number: int
    total: int
    optimizer: torch.optim.Optimizer


class Teacher(Protocol):
    """The previous version, asked for its opinion. Never trained."""

    def logits(
        self, input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor, where_BT: torch.Tensor
    ) -> torch.Tensor:
        """Logits [P, V] at the positions where `where_BT` is true."""


@dataclass(frozen=True)
class MixIn:
    """Rows that hold `share` of every batch, drawn over the `groups` by their `weights`: evenly, if there are none."""

    name: str
    share: float
    groups: tuple[Sequence[Example], ...]
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrainingRows:
    """The increment's new rows, and what is mixed into every batch beside them.

    Attributes:
        new: the new rows; `mixed_in` what is drawn beside them.
        datasets: how many of them belong to each dataset, in order, where datasets are drawn apart.
        ratio: how often each dataset is drawn from; empty: in one heap, or in turn.
        in_turn: the datasets are learned one after another, each with its own course of the learning rate.
        easy_first: the first pass takes the new rows in the order they stand in.
    """

    new: Sequence[Example]
    mixed_in: tuple[MixIn, ...] = ()
    datasets: tuple[int, ...] = ()
    ratio: tuple[float, ...] = ()
    in_turn: bool = False
    easy_first: bool = False

    def with_rows(self, mix_in: MixIn) -> "TrainingRows":
        """These rows and one stream more."""
        return replace(self, mixed_in=(*self.mixed_in, mix_in))


@dataclass(frozen=True)
class AnswerTerm:
    """A term on positions of answers, which the stage makes from the scores that its own loss needs there.

    Attributes:
        where_BT: labelled positions of the micro-batch.
        loss: what each of them loses, in their order.
        weight: of each, in the sum over the micro-batch that `Protection.loss` would return, its strength included.
    """

    where_BT: torch.Tensor
    loss: Loss
    weight: float


class Protection:
    """One idea against forgetting. Its options are its `Config`; `notes` are shown after the run.

    Attributes:
        tuners: the only tuners it works with; empty: with every one.
        stages: the only stages it works in; empty: in every one.
        shardings: the only ways it bears of sharing a model between processes (`train.sharding`); empty: all that
            leave it what the moments that it overrides need, see `nacre.train.protect.build`.
        contradicts: protections that it cannot act beside, and why not; one of the two need only say it.
        after: protections that must stand before it in the list, where they stand in it at all.
        reshapes: it decides which parameters there are and which of them train, so wherever it stands in the
            list it acts before those that remember, measure or average them.
        afresh: it trains a new adapter on the base, beside what adapter the start has, not on from it.
        held_copies: of the trained weights, in float32, that it holds on the device while training; for the
            estimate of memory.
        steered: it has a strength that can be changed between two steps; by default what overrides `loss`,
            `scaled_loss` or `gradient` has one. Those that do it to bring in rows, or to hold a choice, say so.
        pictures: it was tried on rows with pictures, which are long runs of tokens that nobody can predict.
        aligns: it acts in the stage clip too, whose model says no tokens: on rows, weights and gradients alone.
        keeps_loss: what it leaves of the trainer's own loss: less than 1 where its term stands in that one's place.
        scale: what the budget's controller multiplies its strength by. `scaled_loss` applies it to `loss`;
            `gradient` must apply it itself.
    """

    name: ClassVar[str]
    tuners: ClassVar[tuple[str, ...]] = ()
    stages: ClassVar[tuple[str, ...]] = ()
    shardings: ClassVar[tuple[str, ...]] = ()
    contradicts: ClassVar[Mapping[str, str]] = {}
    after: ClassVar[tuple[str, ...]] = ()
    reshapes: ClassVar[bool] = False
    afresh: ClassVar[bool] = False
    held_copies: ClassVar[int] = 0
    steered: ClassVar[bool | None] = None
    pictures: ClassVar[bool] = False
    aligns: ClassVar[bool] = False
    keeps_loss: float = 1.0
    scale: float = 1.0

    class Config(Settings):
        """No options."""

    def __init__(self, config: Any, context: Context) -> None:
        self.config, self.context = config, context
        self.notes: list[str] = []

    @classmethod
    def needs_gradients(cls, config: Any) -> bool:
        """Whether, with these options (None: any), it must see the gradients before the optimizer does."""
        return cls.gradient is not Protection.gradient

    @classmethod
    def copies_held(cls, config: Any) -> int:
        """`held_copies`, with these options."""
        return cls.held_copies

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Before training: which rows are trained on, in what mixture."""
        return rows

    def model(self, model: Any) -> Any:
        """Before training: freeze, add, remember."""
        return model

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """Each micro-batch: a scalar, or None for 0. `hidden_BTD` carries gradients.

        The mean over the micro-batches of a step is added to the loss. So that it does not depend on how the
        batch is cut, a mean over something of the whole batch must be weighted by this micro-batch's part of it.
        """
        return None

    def scaled_loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """`loss` at the strength `scale`: what the trainer adds. Override it where strength is no factor of `loss`."""
        term = self.loss(model, batch, hidden_BTD)
        return None if term is None else self.scale * term

    def answer_term(self, batch: Batch) -> AnswerTerm | None:
        """A part of `scaled_loss` that the stage may make itself, which spares asking the head twice; None: there is
        none. Where it does, `batch["answer_term"]` is this protection's name, and `loss` must leave that part out.
        """
        return None

    def gradient(self, model: Any, step: Step) -> None:
        """Once before every optimizer step, after clipping: edit ``p.grad`` in place."""

    def finish(self, model: Any) -> Any:
        """After training: merge, average; returns the model to keep."""
        return model

    def saved(self, model: Any, folder: Path) -> None:
        """After the result lies in `folder`: write down what the increment that starts from it will need."""

    def state(self) -> dict[str, torch.Tensor]:
        """What it has gathered while training, for a checkpoint; nothing, where all of it can be made again."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on with what `state` gave when the checkpoint was written."""


def predictable(batch: Batch) -> torch.Tensor:
    """Which tokens [B, T - 1] after the first are there to predict: all but padding and patches of pictures."""
    return batch["attention_mask"][:, 1:].bool() & (batch["input_ids"][:, 1:] < FIRST)


def mixed_in_targets(batch: Batch) -> torch.Tensor:
    """Which positions [B, T] of mixed-in rows predict a labelled token: position t predicts token t + 1."""
    where_BT = torch.zeros_like(batch["labels"], dtype=torch.bool)
    where_BT[:, :-1] = (batch["labels"][:, 1:] != IGNORED) & (batch["source"] > 0)[:, None]
    return where_BT

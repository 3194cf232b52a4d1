"""What a stage is: how its rows become batches, and which trainer learns from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from datasets import Dataset
from transformers import TrainerCallback, TrainingArguments

from nacre.model.chat import Encoded
from nacre.records import Example, Train
from nacre.train.protect.base import Protection, TrainingRows
from nacre.train.rows import Prepared, encode_rows, prepare, table_of


@dataclass(frozen=True)
class Measured:
    """Rows to ask the starting version about, before the first step.

    Attributes:
        table: rows as `encode` made them.
        model: the model that is to be trained, as it is now.
        fresh: whether it carries an adapter that the starting version does not have.
        used: the rows that matter; None: all.
    """

    table: Dataset
    model: Any
    fresh: bool
    used: Sequence[int] | None = None


class Stage(ABC):
    """One way to learn from rows: a subclass names its trainer and what that one needs beside the common settings.

    Attributes:
        rewards: whether the model gives an answer a number, instead of giving tokens probabilities.
        speaks: whether it gives tokens anything, through a decoder.
    """

    arguments: ClassVar[type[TrainingArguments]]
    rewards: ClassVar[bool] = False
    speaks: ClassVar[bool] = True

    def __init__(self, settings: Train | None = None) -> None:
        self.settings = settings or Train()

    def options(self, settings: Train) -> dict[str, Any]:
        """Arguments of this stage's trainer alone, in its own words."""
        return {}

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]
    ) -> Sequence[Encoded]:
        """Rows as this stage reads them; those that are none of its own kind as supervised ones."""
        return encode_rows(examples, tokenizer, max_length, notes)

    def prepare(self, rows: TrainingRows, tokenizer: Any, settings: Train) -> Prepared:
        """Rows in training order: every batch holds its true mixture.

        Raises:
            InputError: nothing is left to train on.
        """
        return prepare(rows, tokenizer, settings, self.encode)

    def held_out(self, examples: Sequence[Example], tokenizer: Any, notes: list[str]) -> Dataset | None:
        """Rows to look at while training; None where no token is left of them."""
        rows = self.encode(examples, tokenizer, self.settings.max_length, notes)
        return table_of(rows).add_column("source", [0] * len(rows)) if rows else None

    def measured(self, asked: Measured) -> Dataset:
        """The rows with what the version that training starts from says of them, where the stage's loss asks it."""
        return asked.table

    @abstractmethod
    def trainer(
        self,
        *,
        model: Any,
        args: Any,
        train_dataset: Any,
        processing_class: Any,
        callbacks: Sequence[TrainerCallback],
        protections: Sequence[Protection],
        validation: Mapping[str, Dataset] | None = None,
    ) -> Any:
        """The trainer, protected."""

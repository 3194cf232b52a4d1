"""What a stage is: how its rows become batches, and which trainer learns from them."""

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import TrainerCallback, TrainingArguments

from nacre.records import Train
from nacre.train.protect.base import Protection, TrainingRows
from nacre.train.rows import Prepared, prepare


class Stage:
    """One way to learn from rows: a subclass names its trainer and what that one needs beside the common settings."""

    arguments: ClassVar[type[TrainingArguments]]

    def options(self, settings: Train) -> dict[str, Any]:
        """Arguments of this stage's trainer alone, in its own words."""
        return {}

    def prepare(self, rows: TrainingRows, tokenizer: Any, settings: Train) -> Prepared:
        """Rows in training order: every batch holds its true mixture.

        Raises:
            InputError: nothing is left to train on.
        """
        return prepare(rows, tokenizer, settings)

    def trainer(
        self,
        *,
        model: Any,
        args: Any,
        train_dataset: Any,
        processing_class: Any,
        callbacks: Sequence[TrainerCallback],
        protections: Sequence[Protection],
    ) -> Any:
        """The trainer, protected."""
        raise NotImplementedError

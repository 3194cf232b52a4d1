"""Supervised fine-tuning on answers (sft), and plain text where every token is a label (pt)."""

from typing import Any, ClassVar

from transformers import TrainingArguments
from trl import SFTConfig

from nacre.records import Train
from nacre.train.stages.base import Stage
from nacre.train.trainer import Collator, ProtectedSFT


class Supervised(Stage):
    """Next-token cross-entropy on the labelled tokens."""

    arguments: ClassVar[type[TrainingArguments]] = SFTConfig

    def options(self, settings: Train) -> dict[str, Any]:
        """The rows come tokenised, so the trainer leaves them alone."""
        return {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": settings.max_length}

    def trainer(self, **given: Any) -> Any:
        """TRL's supervised trainer, protected."""
        return ProtectedSFT(data_collator=Collator(given["processing_class"].pad_token_id), **given)

"""Contrastive alignment (clip): a picture and its caption move together, and away from the others of the batch.

Loss: symmetric InfoNCE, see `nacre.model.align`. Of a row the picture and the answer are read, the answer as its
caption. The others of a micro-batch are what a pair is told from, so `accumulation`, and several processes, make
the task easier as well as the memory smaller.
Cost: one forward and backward through both encoders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import Trainer, TrainingArguments

from nacre.base.errors import InputError
from nacre.model.align import Pixels, caption_ids, info_nce, padded_ids, vectors
from nacre.model.chat import Encoded
from nacre.records import Example, Train
from nacre.train.course import InTurn
from nacre.train.protect.base import Protection
from nacre.train.stages.base import Stage
from nacre.train.trainer import BeforeStep
from nacre.train.validation import Validating

LARGEST_SCALE = 4.6052  # of the logarithm: cosines are multiplied by 100 at most, as CLIP has it


@dataclass(frozen=True)
class Captioned(Encoded):
    """A caption's tokens, and the path of its picture."""

    picture: str = ""


class PairCollator:
    """`pixel_values` [B, channels, height, width], `input_ids` and `attention_mask` [B, T]."""

    def __init__(self, tokenizer: Any) -> None:
        self.pad, self.pixels = tokenizer.pad_token_id, Pixels(tokenizer.pictures)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Stack the pairs."""
        words = padded_ids([row["input_ids"] for row in rows], self.pad)
        return {**words, "pixel_values": self.pixels([row["picture"] for row in rows])}


class PairLoss(Trainer):
    """transformers' trainer with the loss of pairs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metrics: dict[str, dict[str, list[float]]] = {"train": {}, "eval": {}}

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Symmetric InfoNCE over the micro-batch."""
        plain = self.accelerator.unwrap_model(model)
        image_BD, text_BD = vectors(plain, inputs)
        loss = info_nce(image_BD, text_BD, plain.logit_scale.clamp(max=LARGEST_SCALE).exp())
        return (loss, None) if return_outputs else loss

    def weight_of(self, inputs: Mapping[str, Any]) -> int:
        """What a micro-batch counts for in a mean over pairs that were held out: its pairs."""
        return len(inputs["input_ids"])


class ProtectedPairs(InTurn, Validating, PairLoss):
    """The same with protections that act on rows, on weights and on gradients."""

    def __init__(self, *args: Any, protections: Sequence[Protection] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(BeforeStep(tuple(protections)))


class Contrastive(Stage):
    """Pairs of a picture and its caption."""

    arguments: ClassVar[type[TrainingArguments]] = TrainingArguments
    speaks = False

    def options(self, settings: Train) -> dict[str, Any]:
        """Nothing is its own."""
        return {}

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, notes: list[str]
    ) -> Sequence[Encoded]:
        """Pairs alone: rows with one picture and an answer.

        Raises:
            InputError: no row is one.
        """
        pairs = [row for row in examples if len(row.images or ()) == 1 and row.answer]
        if examples and not pairs:
            fix = "give each row one picture in the column images, and its caption as the answer"
            raise InputError("no row is a picture with a caption", where="train.stage: clip", fix=fix)
        if len(pairs) < len(examples):
            notes.append(f"{len(examples) - len(pairs)} rows were left out: they are not one picture with a caption")
        found, cuts = [], 0
        for row in pairs:
            ids, cut = caption_ids(tokenizer, row.answer, max_length)
            cuts += cut > 0
            found.append(Captioned(ids, ids, cut, (row.images or ("",))[0]))
        if cuts:
            notes.append(f"{cuts} of {len(pairs)} captions were longer than {max_length} tokens and were shortened")
        return found

    def trainer(self, **given: Any) -> Any:
        """transformers' trainer with the loss of pairs, protected."""
        return ProtectedPairs(data_collator=PairCollator(given["processing_class"]), **given)

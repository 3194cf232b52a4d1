"""Language modelling on generic text beside the task: general ability, kept by practising it.

Loss added: weight * mean cross-entropy of generic text. A little of the text a model was pre-trained on keeps its
loss there flat (Bethune et al. 2025, "Scaling Laws for Forgetting during Finetuning with Pretraining Data Injection",
arXiv 2502.06042). On text sampled from the previous version (which is what is used where `data.general` names no
file) its gradient is that of the KL divergence from that version, as in `distill`, but of one sample for each
position instead of the whole distribution: the same aim with more noise, and no teacher to ask.
Old tasks are not kept by it. It is a mean over the whole batch, however that is cut into micro-batches.
Cost: one forward and backward of `rows` short texts a step.
"""

from typing import Any

import torch
from pydantic import Field
from torch.nn import functional

from nacre.base.config import Settings
from nacre.train.generic import GenericBlocks
from nacre.train.protect.base import Batch, Context, Protection


class Lm(Protection):
    """Keep predicting generic text."""

    name = "lm"
    pictures = True
    stages = ("sft", "pt", "dpo", "kto")  # a reward model has no next token

    class Config(Settings):
        """Options of language modelling on generic text."""

        weight: float = Field(0.1, gt=0, description="weight of its cross-entropy beside the training loss")
        rows: int = Field(4, ge=1, description="generic texts per optimizer step")
        length: int = Field(64, ge=2, description="tokens of a generic text")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._blocks = GenericBlocks(
            context.generic(),
            context.tokenizer,
            length=min(config.length, context.max_length),
            rows=config.rows,
            seed=context.seed,
            where="protect: lm",
        )
        source = f"text of {context.general}" if context.general else "text sampled from the previous version"
        self.notes.append(f"lm: {config.weight} times the cross-entropy of {source}")

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """The cross-entropy of this micro-batch's blocks, times the weight."""
        drawn = self._blocks.draw(batch, hidden_BTD.device)
        if drawn is None:
            return None
        ids_BT, part = drawn
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        logits_BTV = causal(input_ids=ids_BT, use_cache=False).logits
        lost = functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1).float(), ids_BT[:, 1:].flatten())
        return self.config.weight * part * lost

"""Distillation from the previous version, on replayed rows and on generic text.

Loss added: weight * mean over positions of KL(previous || new) (Hinton et al. 2015, arXiv 1503.02531).
On the rows of past tasks it keeps the old answers (dark knowledge, Buzzega et al. 2020, arXiv 2004.07211);
on generic text it keeps general ability. On the *new* rows (Learning without Forgetting) it is known to hurt
both, so that is not offered.
Both are means over the whole batch, however it is cut into micro-batches.
With `cache: k` the teacher is asked once for each row and text, and its k most likely tokens are kept with the mass
of the rest: see `nacre.train.teacher_cache` for what that leaves out, and for the file that later runs read.
Cost: on generic text one forward and backward of `rows` short texts a step, and the teacher's forward;
on replayed rows the teacher's forward alone, because the student's hidden states are already there. From a cache,
the teacher's forward only where a row is met for the first time, and 8 k + 8 bytes for each position kept; on replayed
rows the student's scores are then those that the stage's own loss makes, where its head does not train (on a CPU).
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch.nn import functional

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.base.hashing import content_hash
from nacre.model.chat import encode_text
from nacre.model.head import next_token_logits
from nacre.model.vocabulary import divergence_nats, divergence_of, frozen_head
from nacre.train import processes
from nacre.train.protect.base import AnswerTerm, Batch, Context, Protection, TrainingRows, mixed_in_targets
from nacre.train.protect.replayed import replayed_in
from nacre.train.teacher_cache import TeacherCache, bucketed_divergence


class Distill(Protection):
    """Hold the new version's next-token distribution near the previous version's."""

    name = "distill"
    pictures = True
    stages = ("sft", "pt", "dpo", "kto")  # a reward model has no next token

    class Config(Settings):
        """Options of distillation."""

        weight: float = Field(0.1, gt=0, description="weight of the divergence beside the training loss")
        on: tuple[Literal["generic", "replayed"], ...] = Field(
            ("generic",), min_length=1, description="generic text, the rows that are replayed, or both"
        )
        replayed_weight: float | None = Field(None, gt=0, description="weight on replayed rows; default: weight")
        cache: int | None = Field(
            None, ge=1, description="ask the teacher once and keep its so many most likely tokens; default: ask anew"
        )
        rows: int = Field(4, ge=1, description="generic texts per optimizer step, over all processes")
        length: int = Field(64, ge=2, description="tokens of a generic text")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._blocks: list[list[int]] = []
        if "generic" in config.on:
            length = min(config.length, context.max_length)
            encoded = encode_text(list(context.generic()), context.tokenizer, length)
            self._blocks = [row.input_ids for row in encoded if len(row.input_ids) == length]
            if not self._blocks:
                raise InputError(
                    f"the generic text is shorter than one block of {length} tokens",
                    where="protect: distill",
                    fix="name a file with more text in data.general, or choose a smaller length",
                )
        self._cache: TeacherCache | None = None
        if config.cache is not None:
            key = content_hash([context.previous.identity, config.cache, context.train.precision])
            self._cache = TeacherCache(context.folder / "teacher" / f"{key}.safetensors", config.cache, context.teacher)
        self._weights = {"generic": config.weight, "replayed": config.replayed_weight or config.weight}
        names = {"generic": "generic text", "replayed": "replayed rows"}
        told = " and ".join(f"{self._weights[place]} times on {names[place]}" for place in config.on)
        self.notes.append(f"distill: the divergence from the previous version, {told}")

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Nothing is changed, but where nothing is replayed there is nothing to distil on.

        Raises:
            InputError: there are past rows, but no protection before this one replays them.
        """
        if "replayed" in self.config.on and not rows.mixed_in:
            if self.context.memory:
                raise InputError(
                    "distillation on replayed rows needs rows that are replayed",
                    where="protect: distill",
                    fix="put replay before distill in the list, or take 'replayed' out of 'on'",
                )
            self.notes.append("distill: no rows of past tasks yet, so nothing is replayed to distil on")
        return rows

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """Sum of the divergences asked for, times the weight."""
        terms = []
        if "replayed" in self.config.on and batch.get("answer_term") != self.name:
            terms.append((self._weights["replayed"], self._on_replayed(model, batch, hidden_BTD)))
        if self._blocks:
            terms.append((self._weights["generic"], self._on_generic(model, batch, hidden_BTD.device)))
        found = [weight * term for weight, term in terms if term is not None]
        return torch.stack(found).sum() if found else None

    def answer_term(self, batch: Batch) -> AnswerTerm | None:
        """The divergence on replayed rows, where what the teacher said of them is kept."""
        where_BT = mixed_in_targets(batch)
        if self._cache is None or "replayed" not in self.config.on or not where_BT.any():
            return None
        old_B = batch["source"] > 0
        top = self._cache.look(batch["input_ids"][old_B], batch["attention_mask"][old_B], where_BT[old_B])
        weight = self.scale * self._weights["replayed"] * batch["micro_batches"] / batch["mixed_in_tokens"]
        return AnswerTerm(where_BT, divergence_of(top.logs_PK, top.ids_PK, top.rest_P), weight)

    def finish(self, model: Any) -> Any:
        """Keep what the teacher was asked."""
        if self._cache is not None:
            self._cache.gather()
            if processes.is_main():
                self._cache.save()
            self.notes.append(f"distill: the previous version was asked about {self._cache.asked} rows and texts anew")
        return model

    def _on_replayed(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        rows = replayed_in(model, batch, hidden_BTD)
        if rows is None:
            return None
        asked = (rows.input_ids_BT, rows.attention_mask_BT, rows.where_BT)
        return rows.part * self._divergence(model, rows.hidden_PD, *asked)

    def _on_generic(self, model: Any, batch: Batch, device: torch.device) -> torch.Tensor | None:
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        # drawn by step number, so that a resumed run sees the texts an unbroken one would
        draw = torch.Generator().manual_seed(self.context.seed * 1_000_003 + batch["step"])
        drawn = torch.randint(len(self._blocks), (self.config.rows,), generator=draw).tolist()
        chosen = drawn[batch["micro_batch"] :: batch["micro_batches"]]
        if not chosen:
            return None
        ids_BT = torch.tensor([self._blocks[place] for place in chosen], device=device)
        mask_BT = torch.ones_like(ids_BT)
        hidden_BTD = causal.get_decoder()(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
        part = len(chosen) * batch["micro_batches"] / len(drawn)
        return part * self._divergence(causal, hidden_BTD[mask_BT.bool()], ids_BT, mask_BT, mask_BT.bool())

    def _divergence(
        self, model: Any, hidden_PD: torch.Tensor, ids_BT: torch.Tensor, mask_BT: torch.Tensor, where_BT: torch.Tensor
    ) -> torch.Tensor:
        """From what the teacher says now, or from what was kept of it; `hidden_PD` are the student's states."""
        if self._cache is None:
            teacher_PV = self.context.teacher().logits(ids_BT, mask_BT, where_BT)
            return divergence(next_token_logits(model, hidden_PD), teacher_PV)
        top, head = self._cache.look(ids_BT, mask_BT, where_BT), frozen_head(model, hidden_PD.device.type)
        if head is None:
            return bucketed_divergence(next_token_logits(model, hidden_PD), top)
        return divergence_nats(head, hidden_PD, top.logs_PK, top.ids_PK, top.rest_P).mean()


def divergence(student_PV: torch.Tensor, teacher_PV: torch.Tensor) -> torch.Tensor:
    """Mean over positions of KL(teacher || student), in nats."""
    return functional.kl_div(
        functional.log_softmax(student_PV.float(), -1),
        functional.log_softmax(teacher_PV.float(), -1),
        log_target=True,
        reduction="batchmean",
    )

"""Self-distillation fine-tuning: the previous version, shown a good answer, teaches the one that is not shown it.

Source: Shenfeld et al. 2026 (arXiv 2601.19897). For each row the new version answers by itself, y ~ p(. | question),
and the reverse divergence sum_t KL(p(. | question, y_<t) || q(. | question, demonstration, y_<t)) is lowered, where
q is the previous version that has the row's own answer in its prompt. Learning on what the new version itself says
moves it less far from the old one than imitating answers written by others does. The mean is over the tokens of each
answer, then over the rows. There the teacher follows the student as a running average; here it stays what it was, so
the list's other protections and a resumed run see one and the same teacher.
The trainer's own loss is set aside, down to `sft_weight` of it, for new and replayed rows alike: all of them are
taught by demonstration. Rows that cannot be (plain text, rows too long beside a demonstration, twins with typos, which
come into being later) keep the whole ordinary loss.
Pictures of a row stand before both sides: the demonstration is words alone.
TRL's own trainer of this method brings its loss, rows and generation as one piece, in which no other protection of
the list could act; this is the same objective as one term.
It needs a model that uses a demonstration: whether it does is measured before training, and one that does not is
refused. Base models below some billion parameters usually do not.
Cost: for every row of every batch an answer is generated token by token, then one forward and backward of it and one
forward of the teacher over demonstration and answer: several times the cost of ordinary training. Off by default.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch.nn import functional

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.model.chat import IGNORED, prompt_ids, stop_ids
from nacre.model.head import next_token_logits
from nacre.model.load import pick_device
from nacre.records import Example, Message
from nacre.train.protect.base import Batch, Context, Protection, TrainingRows
from nacre.train.protect.mixing import summed_loss
from nacre.train.rows import encode_one
from nacre.train.teacher_cache import row_keys

DEMONSTRATION = (
    "{question}\n\nHere is an example of a good answer to this:\n{answer}\n\nNow give an answer of your own:"
)
TRIED, HELPS = 16, 0.9  # rows the teacher is tried on, and what share of its loss a demonstration may leave at most


@dataclass(frozen=True)
class Taught:
    """A row as both sides see it: the student's prompt, the teacher's with the demonstration, and the answer."""

    student: list[int]
    teacher: list[int]
    answer: list[int]


class Sdft(Protection):
    """Learn from the previous version that is shown the answer, on answers of one's own."""

    name = "sdft"
    pictures = True
    stages = ("sft",)
    after = ("replay", "rehearse", "general")

    class Config(Settings):
        """Options of self-distillation fine-tuning."""

        weight: float = Field(1.0, gt=0, description="weight of the divergence")
        sft_weight: float = Field(0.0, ge=0, description="what is left of the ordinary loss beside it")
        answer_tokens: int = Field(128, ge=1, description="longest answer that the new version gives in training")
        temperature: float = Field(1.0, gt=0, description="of these answers")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.keeps_loss = config.sft_weight
        self._stop = stop_ids(context.tokenizer)
        self._taught: dict[bytes, Taught] = {}

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Write down each row's demonstration; nothing is changed.

        Raises:
            InputError: a demonstration leaves no room for an answer, or the teacher makes nothing of it.
        """
        examples = [*rows.new, *(row for mix in rows.mixed_in for group in mix.groups for row in group)]
        usable = [row for row in examples if row.kind != "text" and row.answers and row.prompt]
        for row in usable:
            key, taught = self._demonstrated(row)
            if len(taught.teacher) + min(self.config.answer_tokens, 8) <= self.context.max_length:
                self._taught[key] = taught
        if not self._taught:
            raise InputError(
                f"no row leaves room for a demonstration and an answer in {self.context.max_length} tokens",
                where="protect: sdft",
                fix="raise max_length, or leave sdft out",
            )
        if left_out := len({row.content_id for row in examples}) - len(self._taught):
            why = "plain text, or too long beside a demonstration"
            self.notes.append(f"sdft: {left_out} rows keep the ordinary loss: {why}")
        with_it, without = self._tried()
        told = f"{with_it:.2f} nats a token with the demonstration and {without:.2f} without"
        if with_it > HELPS * without:
            raise InputError(
                f"the previous version does not use a demonstration: it takes {told}",
                where="protect: sdft",
                fix="take a larger, instruction-tuned model, or protect by replay",
            )
        self.notes.append(f"sdft: {len(self._taught)} rows are taught by demonstration; the teacher takes {told}")
        return rows

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """Reverse divergence on the new version's own answers: a mean over the rows of the whole step.

        And what the trainer's loss lacks on rows that have no demonstration.
        """
        where_BT = torch.zeros_like(batch["labels"], dtype=torch.bool)
        where_BT[:, :-1] = batch["labels"][:, 1:] != IGNORED
        keys = row_keys(batch["input_ids"], batch["attention_mask"], where_BT)
        found = [(key, self._taught[key]) for key in keys if key in self._taught]
        unknown_B = torch.tensor([key not in self._taught for key in keys])
        plain = self._ordinary(model, batch, hidden_BTD, unknown_B)
        if not found:
            return plain
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        terms = [self._divergence(causal, row, self._answer(causal, row, key, batch["step"])) for key, row in found]
        taught = self.config.weight * torch.stack(terms).sum() / len(keys)
        return taught if plain is None else taught + plain

    def _ordinary(
        self, model: Any, batch: Batch, hidden_BTD: torch.Tensor, which_B: torch.Tensor
    ) -> torch.Tensor | None:
        """The cross-entropy that `keeps_loss` takes from these rows."""
        which_B = which_B.to(hidden_BTD.device)
        targets_BT = batch["labels"][which_B][:, 1:]
        where_BT = targets_BT != IGNORED
        if self.keeps_loss == 1 or not where_BT.any():
            return None
        lost = summed_loss(model, hidden_BTD[which_B][:, :-1], targets_BT, where_BT)
        return (1 - self.keeps_loss) * lost * batch["micro_batches"] / batch["labelled_tokens"]

    def _demonstrated(self, row: Example) -> tuple[bytes, Taught]:
        tokenizer, context = self.context.tokenizer, self.context
        encoded = encode_one(row, tokenizer, context.max_length)
        ids_1T = torch.tensor([encoded.input_ids])
        where_1T = torch.tensor([[label != IGNORED for label in (*encoded.labels[1:], IGNORED)]])
        last = row.prompt[-1]
        asked = DEMONSTRATION.format(question=last.content, answer=row.answers[0].content)
        shown = (*row.prompt[:-1], Message(role=last.role, content=asked))
        given: dict[str, Any] = {"system": row.system, "tools": row.tools, "images": row.images}
        taught = Taught(
            student=prompt_ids(row.prompt, tokenizer, **given),
            teacher=prompt_ids(shown, tokenizer, **given),
            answer=[label for label in encoded.labels if label != IGNORED],
        )
        return row_keys(ids_1T, torch.ones_like(ids_1T), where_1T)[0], taught

    def _tried(self) -> tuple[float, float]:
        """The teacher's mean loss on reference answers, with their demonstration and without."""
        rows = [row for row in list(self._taught.values())[:TRIED] if row.answer]
        tokens = sum(len(row.answer) for row in rows)
        return (
            sum(float(self._reference_loss(row.teacher, row.answer)) for row in rows) / tokens,
            sum(float(self._reference_loss(row.student, row.answer)) for row in rows) / tokens,
        )

    def _reference_loss(self, prompt: list[int], answer: list[int]) -> torch.Tensor:
        logits_PV = self._teacher_logits(prompt, answer, pick_device())
        return functional.cross_entropy(logits_PV, torch.tensor(answer, device=logits_PV.device), reduction="sum")

    def _teacher_logits(self, prompt: Sequence[int], answer: Sequence[int], device: Any) -> torch.Tensor:
        ids_1T, where_1T = _asked(prompt, answer, device)
        return self.context.teacher().logits(ids_1T, torch.ones_like(ids_1T), where_1T).float()

    def _divergence(self, causal: Any, row: Taught, answer: list[int]) -> torch.Tensor:
        device = next(causal.parameters()).device
        ids_1T, where_1T = _asked(row.student, answer, device)
        hidden_1TD = causal.get_decoder()(
            input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), use_cache=False
        ).last_hidden_state
        student_PV = next_token_logits(causal, hidden_1TD[where_1T]).float().log_softmax(-1)
        teacher_PV = self._teacher_logits(row.teacher, answer, device).log_softmax(-1)
        return (student_PV.exp() * (student_PV - teacher_PV)).sum(-1).mean()

    @torch.no_grad()
    def _answer(self, causal: Any, row: Taught, key: bytes, step: int) -> list[int]:
        """The new version's own answer, with the token that ends it.

        Drawn by row and step, one row at a time: the same however the batch is cut, and after a resume.
        """
        device = next(causal.parameters()).device
        longest = max(len(row.student), len(row.teacher))
        room = max(1, min(self.config.answer_tokens, self.context.max_length - longest))
        draw = torch.Generator().manual_seed(int.from_bytes(key[:7], "little") ^ (self.context.seed * 1_000_003 + step))
        training, said = causal.training, list[int]()
        causal.eval()
        ids_1T, cache = torch.tensor([row.student], device=device), None
        for _ in range(room):
            output = causal(input_ids=ids_1T, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            chances_V = (output.logits[0, -1].float() / self.config.temperature).softmax(-1).cpu()
            said.append(int(torch.multinomial(chances_V, 1, generator=draw)))
            if said[-1] in self._stop:
                break
            ids_1T = torch.tensor([said[-1:]], device=device)
        causal.train(training)
        return said


def _asked(prompt: Sequence[int], answer: Sequence[int], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt and answer as one row [1, T], and the positions that predict the answer's tokens."""
    ids_1T = torch.tensor([[*prompt, *answer]], device=device)
    where_1T = torch.zeros_like(ids_1T, dtype=torch.bool)
    where_1T[0, len(prompt) - 1 : -1] = True
    return ids_1T, where_1T

"""Dark experience replay: replayed rows keep the logits that the model gave when it had just learned them.

Source: Buzzega et al. 2020 (arXiv 2004.07211), eq. 6 (DER++): loss of the new rows
+ alpha * mean (h(x) - z)^2 + beta * cross-entropy(h(x), y) over rows x, y of the memory with their stored logits z.
Which logits: at its end every increment under `der` stores those of its own rows under the weights it ended with, and
hands them on untouched from increment to increment, so z is from when the row was learned. Rows that no increment
under `der` has learned get the previous version's, stored the same way from then on.
A language model has a distribution of tens of thousands of tokens at every position of an answer: the squares are
taken over its `top` largest stored logits alone, and the mean over these and the positions of all replayed rows.
`replay` before it in the list brings the rows, and with them a cross-entropy at its share of the batch; `beta` is for
what is wanted beyond that.
Cost: 8 top + 8 bytes for each position of an answer; the teacher's forward where a row's logits are not stored yet,
one forward of the new rows at the end; a step costs little, because the hidden states are already there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch.nn import functional

from nacre.base.config import Settings
from nacre.base.errors import InputError
from nacre.model.chat import IGNORED
from nacre.records import Example
from nacre.train.protect.base import Batch, Context, Protection, TrainingRows
from nacre.train.protect.importance import files_key, measurable, weights_key
from nacre.train.protect.replayed import replayed_in
from nacre.train.teacher_cache import TeacherCache, row_keys, top_of


class Der(Protection):
    """Hold the largest logits on replayed rows where they were when the row was learned."""

    name = "der"
    pictures = True
    stages = ("sft", "pt")

    class Config(Settings):
        """Options of dark experience replay."""

        alpha: float = Field(0.3, gt=0, description="weight of the squared distance from the stored logits")
        beta: float = Field(0.0, ge=0, description="weight of a cross-entropy on replayed rows beside replay's own")
        top: int = Field(64, ge=1, description="largest logits stored of each position")

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._new: Sequence[Example] = ()
        stored = any((context.folder / "teacher").glob("der-*"))  # reading the weights to find their key takes a while
        path = self._path(weights_key(context.start) if stored else "none")
        self._kept = TeacherCache(path, config.top, context.teacher)

    def rows(self, rows: TrainingRows) -> TrainingRows:
        """Nothing is changed, but there must be rows that are replayed.

        Raises:
            InputError: there are past rows, but no protection before this one replays them.
        """
        self._new = rows.new
        if rows.mixed_in:
            self.notes.append(f"der: {self.config.alpha} times the distance from the stored {self.config.top} logits")
        elif self.context.memory:
            raise InputError(
                "dark experience replay needs rows that are replayed",
                where="protect: der",
                fix="put replay before der in the list",
            )
        else:
            self.notes.append("der: no rows of past tasks yet; the logits of this increment's rows are stored")
        return rows

    def loss(self, model: Any, batch: Batch, hidden_BTD: torch.Tensor) -> torch.Tensor | None:
        """alpha * squared distance + beta * cross-entropy over the replayed rows."""
        rows = replayed_in(model, batch, hidden_BTD)
        if rows is None:
            return None
        stored = self._kept.look(rows.input_ids_BT, rows.attention_mask_BT, rows.where_BT)
        student_PV = rows.student_PV.float()
        distance = functional.mse_loss(
            student_PV.gather(-1, stored.ids_PK.long()), stored.logs_PK + stored.norm_P[:, None]
        )
        total = self.config.alpha * distance
        if self.config.beta:
            total = total + self.config.beta * functional.cross_entropy(student_PV, rows.targets_P)
        return rows.part * total

    def finish(self, model: Any) -> Any:
        """Bring together what each process has asked, before one of them writes it down."""
        self._kept.gather()
        return model

    @torch.no_grad()
    def saved(self, model: Any, folder: Path) -> None:
        """Store the logits of the rows that were just learned, beside those handed on."""
        told = f"the previous version was asked about {self._kept.asked} rows whose logits were not stored"
        self.notes.append(f"der: {told}")
        training = model.training
        model.eval()
        for row in measurable(self._new, self.context.tokenizer, self.context.max_length):
            ids_1T = torch.tensor([row.input_ids], device=model.device)
            where_1T = torch.tensor([[label != IGNORED for label in (*row.labels[1:], IGNORED)]], device=model.device)
            key = row_keys(ids_1T, torch.ones_like(ids_1T), where_1T)
            if key[0] not in self._kept:
                logits_PV = model(input_ids=ids_1T, use_cache=False, logits_to_keep=where_1T).logits.flatten(0, -2)
                self._kept.put(key, top_of(logits_PV, self.config.top), [len(logits_PV)])
        model.train(training)
        self._kept.save(self._path(files_key(folder)))

    def _path(self, key: str) -> Path:
        return self.context.folder / "teacher" / f"der-{self.config.top}-{key}.safetensors"

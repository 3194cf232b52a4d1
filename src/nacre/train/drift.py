"""How far a run moved the model on the new task: KL(before || after), an alarm that costs two forward passes.

Over tasks, models and methods this divergence on the new task's rows predicts how much is forgotten (Shenfeld, Pari,
Agrawal 2025, "RL's Razor", arXiv 2509.04259). It needs no old data.

Shapes: B rows, T tokens of a row, P answer positions, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import TrainerCallback

from nacre.model.chat import IGNORED, encode
from nacre.model.prompts import as_it_began
from nacre.records import Example
from nacre.train.arguments import autocast_of

ROWS, POSITIONS = 32, 256  # what the model said before training is kept for this many answer positions at most


class Drift(TrainerCallback):
    """Keeps what the model says on answers of new rows before training, and compares it afterwards.

    Where each process holds a part of the weights, a layer answers only when all ask it: such a run has this among its
    callbacks, and all processes ask the same rows at the moment when training begins.
    """

    name = "drift"

    def __init__(
        self,
        tokenizer: Any,
        rows: Sequence[Example],
        max_length: int,
        *,
        fresh: bool = False,
        precision: str = "fp32",
    ) -> None:
        """With `fresh` the model carries an adapter that the starting version does not have."""
        answers = (row for row in rows if row.kind != "text" and row.desirable is not False)
        chosen = sorted(answers, key=lambda row: row.content_id)[:ROWS]
        self._rows = [encode(row, tokenizer, max_length) for row in chosen]
        self._fresh, self._precision = fresh, precision
        self._before_PV: torch.Tensor | None = None

    def begin(self, model: Any) -> None:
        """Ask the model that training starts from."""
        with as_it_began(model, self._fresh):
            self._before_PV = self._log_probs(model)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """`begin`, unless a checkpoint has told what the model said."""
        if self._before_PV is None:
            self.begin(model)

    def state(self) -> dict[str, torch.Tensor]:
        """For a checkpoint."""
        return {} if self._before_PV is None else {"before": self._before_PV}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """From a checkpoint."""
        self._before_PV = state.get("before")

    def measure(self, model: Any) -> float | None:
        """Mean KL(before || now) in nats per answer token; None where the rows have no answer."""
        if self._before_PV is None:
            return None
        now_PV = self._log_probs(model)
        assert now_PV is not None
        total = functional.kl_div(now_PV, self._before_PV.float(), log_target=True, reduction="sum")
        return float(total) / len(now_PV)

    @torch.no_grad()
    def _log_probs(self, model: Any) -> torch.Tensor | None:
        """Log-probabilities [P, V] on the CPU at the first `POSITIONS` positions that predict an answer token."""
        training = model.training
        model.eval()
        found: list[torch.Tensor] = []
        positions = 0
        for row in self._rows:
            labels_T = torch.tensor([*row.labels[1:], IGNORED])
            wanted_1T = (labels_T != IGNORED)[None].to(model.device)
            if positions >= POSITIONS or not wanted_1T.any():
                continue
            ids_1T = torch.tensor([row.input_ids], device=model.device)
            given = {"input_ids": ids_1T, "attention_mask": torch.ones_like(ids_1T), "use_cache": False}
            with autocast_of(self._precision):
                logits_PV = model(**given, logits_to_keep=wanted_1T).logits[: POSITIONS - positions]
            found.append(functional.log_softmax(logits_PV.float(), -1).to("cpu"))
            positions += len(found[-1])
        model.train(training)
        return torch.cat(found) if found else None

"""How far a run moved the model on the new task: KL(before || after), an alarm that costs two forward passes.

Over tasks, models and methods this divergence on the new task's rows predicts how much is forgotten (Shenfeld, Pari,
Agrawal 2025, "RL's Razor", arXiv 2509.04259). It needs no old data.

Shapes: B rows, T tokens of a row, P answer positions, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from nacre.model.chat import IGNORED, encode
from nacre.model.prompts import as_it_began
from nacre.records import Example

ROWS, POSITIONS = 32, 256  # what the model said before training is kept for this many answer positions at most


class Drift:
    """Keeps what the model says on answers of new rows before training, and compares it afterwards.

    With `fresh` it carries an adapter that the starting version does not have.
    """

    def __init__(
        self, model: Any, tokenizer: Any, rows: Sequence[Example], max_length: int, *, fresh: bool = False
    ) -> None:
        answers = (row for row in rows if row.kind != "text" and row.desirable is not False)
        chosen = sorted(answers, key=lambda row: row.content_id)[:ROWS]
        self._rows = [encode(row, tokenizer, max_length) for row in chosen]
        with as_it_began(model, fresh):
            self._before_PV = self._log_probs(model)

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
            logits_PV = model(**given, logits_to_keep=wanted_1T).logits[: POSITIONS - positions]
            found.append(functional.log_softmax(logits_PV.float(), -1).to("cpu"))
            positions += len(found[-1])
        model.train(training)
        return torch.cat(found) if found else None

"""The next token of one row: penalties, bias and format on its logits, then the draw. All on the CPU, row by row.

Rows are drawn each by themselves, with a generator of their own, in double precision, and near ties go to the lower
id: what else is in the batch can change a text only through the model's own rounding, where two tokens are that near.

Shapes: V vocabulary.
"""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nacre.serve.engines import Sampling
from nacre.serve.engines.sampling import sample

if TYPE_CHECKING:  # its module imports an optional library
    from nacre.serve.engines.embedded.constrain import Constraint


@dataclass(frozen=True)
class Drawn:
    """A token, and where they were asked for its log probability and the likeliest tokens with theirs."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Draw:
    """How one row's tokens are drawn, and what it has said so far."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], constraint: "Constraint | None") -> None:
        self._sampling, self._constraint = sampling, constraint
        self._said: Counter[int] = Counter()
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else set()
        self._generator = torch.Generator()
        self._generator.manual_seed(secrets.randbits(63) if sampling.seed is None else sampling.seed)
        self.plain = (
            sampling.temperature == 0
            and sampling.logprobs is None
            and constraint is None
            and not sampling.logit_bias
            and (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1, 0, 0)
        )  # the likeliest token, and nothing else: rows of this kind are drawn together

    def next(self, logits_V: torch.Tensor) -> Drawn:
        """Draw a token.

        Raises:
            ValueError: a logit is not a number, so the weights are broken.
        """
        logits_V = logits_V.to("cpu", torch.float32)
        told = self._sampling.logprobs
        logprob: float | None = None
        top: tuple[tuple[int, float], ...] = ()
        if told is not None:
            logprobs_V = logits_V.double().log_softmax(-1)
            top = likeliest(logprobs_V, told)
        sampling = self._sampling
        token = sample(
            self._changed(logits_V),
            sampling.temperature,
            sampling.top_p,
            self._generator,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
        )
        if told is not None:
            logprob = float(logprobs_V[token])
        return Drawn(token, logprob, top)

    def accept(self, token: int) -> bool:
        """Go on with a token; whether the format says that the answer is complete."""
        self._said[token] += 1
        if self._sampling.repetition_penalty != 1:
            self._seen.add(token)
        return self._constraint is not None and self._constraint.accept(token)

    def _changed(self, logits_V: torch.Tensor) -> torch.Tensor:
        sampling = self._sampling
        logits_V = logits_V.clone()
        if sampling.repetition_penalty != 1 and self._seen:
            seen = torch.tensor(sorted(self._seen))
            held = logits_V[seen]
            penalty = sampling.repetition_penalty
            logits_V[seen] = torch.where(held > 0, held / penalty, held * penalty)
        if self._said and (sampling.presence_penalty or sampling.frequency_penalty):
            said = torch.tensor(list(self._said))
            times = torch.tensor(list(self._said.values()), dtype=torch.float32)
            logits_V[said] -= sampling.presence_penalty + sampling.frequency_penalty * times
        for token, bias in sampling.logit_bias.items():
            logits_V[token] += bias
        if self._constraint is not None:
            self._constraint.mask(logits_V)
        return logits_V


def likeliest(logprobs_V: torch.Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """Ids and log probabilities of so many likeliest tokens."""
    if not count:
        return ()
    found = logprobs_V.topk(min(count, len(logprobs_V)))
    return tuple(zip(found.indices.tolist(), found.values.tolist(), strict=True))

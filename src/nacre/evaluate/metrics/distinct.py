"""Distinct-n: how varied the answers are."""

from collections.abc import Sequence
from typing import ClassVar

from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.metrics.words import words


class Distinct1(Metric):
    """Different n-grams over all n-grams (Li et al. 2016, arXiv 1510.03055): of one answer, and of all together.

    It compares nothing with the reference, so the gate does not read it. No n-grams give 0.
    """

    definition = "Distinct-1: different tokens / tokens, over all answers together"
    gate = False
    n: ClassVar[int] = 1

    def measure(self, scored: Scored) -> list[float]:
        """Distinct-n of each answer alone."""
        return [_distinct([answer], self.n) for answer in scored.answers]

    def total(self, scored: Scored) -> float:
        """Distinct-n of all answers together."""
        return _distinct(scored.answers, self.n)


class Distinct2(Distinct1):
    """Distinct-n over pairs of tokens."""

    definition = "Distinct-2: different token pairs / token pairs, over all answers together"
    n = 2


def _distinct(answers: Sequence[str], n: int) -> float:
    split = [words(answer) for answer in answers]
    grams = [tuple(tokens[i : i + n]) for tokens in split for i in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0

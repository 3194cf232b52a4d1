"""Token F1."""

from collections import Counter

from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.metrics.words import words


class TokenF1(Metric):
    """Harmonic mean of precision and recall over the tokens of answer and reference, order aside.

    Rajpurkar et al. 2016 (SQuAD, arXiv 1606.05250, section 6.1), over `words`, articles kept.
    """

    definition = "mean F1 of the answer's tokens against the reference's (Chinese by character, else by word)"

    def measure(self, scored: Scored) -> list[float]:
        """F1 per row; 1 where both texts are empty."""
        return [_f1(answer, reference) for answer, reference in zip(scored.answers, scored.references, strict=True)]


def _f1(answer: str, reference: str) -> float:
    said, expected = Counter(words(answer)), Counter(words(reference))
    size = said.total() + expected.total()
    return 2 * (said & expected).total() / size if size else 1.0

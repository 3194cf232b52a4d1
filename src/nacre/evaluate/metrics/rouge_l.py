"""ROUGE-L."""

from rouge_score.rouge_scorer import RougeScorer

from nacre.evaluate.metrics.metric import Metric, Scored
from nacre.evaluate.metrics.words import words


class RougeL(Metric):
    """F-measure of the longest common subsequence of tokens (Lin 2004), by the rouge-score package.

    That package's own tokenizer drops everything but a-z and 0-9, so it gets `words` instead.
    """

    definition = "mean ROUGE-L F-measure (longest common subsequence; Chinese by character, else by word)"

    def measure(self, scored: Scored) -> list[float]:
        """F-measure per row; 1 where both texts are empty."""
        scorer = RougeScorer(["rougeL"], tokenizer=_Words())
        return [
            float(scorer.score(reference, answer)["rougeL"].fmeasure) if words(answer) or words(reference) else 1.0
            for answer, reference in zip(scored.answers, scored.references, strict=True)
        ]


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return words(text)

"""How long the answers are."""

from nacre.evaluate.metrics.metric import Metric, Scored


class LengthCharacters(Metric):
    """Characters of the answer, white space around it aside. It is no score: the gate may watch that it stays."""

    definition = "mean number of characters of an answer"
    gate = False

    def measure(self, scored: Scored) -> list[float]:
        """Characters per row."""
        return [float(len(answer.strip())) for answer in scored.answers]


class LengthTokens(Metric):
    """Tokens of the answer as the model that gave it counts them, the one that ends it aside."""

    definition = "mean number of tokens of an answer, as its model counts them"
    gate = False

    def applies(self, scored: Scored) -> bool:
        """Whether the tokens were counted."""
        return len(scored.tokens) == len(scored.answers)

    def measure(self, scored: Scored) -> list[float]:
        """Tokens per row."""
        return [float(count) for count in scored.tokens]

"""Perplexity per token, and its inverse, which the gate can read."""

import math

from nacre.evaluate.metrics.metric import Metric, Scored

_LARGEST = 700.0  # nats; exp of more does not fit a float


class Perplexity(Metric):
    """exp(negative log-likelihood / tokens) of the reference under the model, natural logarithm.

    Per example over its own tokens; the total over all tokens of all rows, so long rows weigh more.
    Above exp(700) it stays there. A row with no token to score has 1, the value of an empty product.
    """

    definition = "exp(sum of nll / number of tokens) of the reference answers, over all tokens of all rows"
    reads = "losses"
    gate = False

    def measure(self, scored: Scored) -> list[float]:
        """Perplexity of each row, at least 1."""
        return [math.exp(min(_LARGEST, nll / max(tokens, 1))) for nll, tokens in scored.losses]

    def total(self, scored: Scored) -> float:
        """Perplexity over all tokens of all rows."""
        nll, tokens = (sum(column) for column in zip(*scored.losses, strict=True))
        return math.exp(min(_LARGEST, nll / max(tokens, 1)))


class Likelihood(Metric):
    """exp(-negative log-likelihood / tokens): the inverse of perplexity, which lies in [0, 1].

    The geometric mean of the probabilities that the model gives to the reference's tokens.
    """

    definition = "mean over rows of the geometric mean probability of the reference's tokens (1 / perplexity)"
    reads = "losses"

    def measure(self, scored: Scored) -> list[float]:
        """Geometric mean probability per row."""
        return [math.exp(-nll / max(tokens, 1)) for nll, tokens in scored.losses]

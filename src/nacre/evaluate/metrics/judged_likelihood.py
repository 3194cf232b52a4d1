"""How well a model's probabilities agree with judgements of single answers."""

import math

from nacre.evaluate.metrics.metric import Metric, Scored


class JudgedLikelihood(Metric):
    """p for an answer that was judged good, 1 - p for one that was judged bad.

    p is the geometric mean of the probabilities that the model gives to the answer's tokens, so both lie in [0, 1].
    A bad answer that is unlikely already has little left to gain: read it beside the good ones.
    """

    definition = "mean over rows of p for good answers and 1 - p for bad ones; p: geometric mean probability of a token"
    reads = "judgements"

    def measure(self, scored: Scored) -> list[float]:
        """Agreement per row."""
        found = [math.exp(-nll / max(tokens, 1)) for nll, tokens in scored.losses]
        return [p if good else 1 - p for p, good in zip(found, scored.wanted, strict=True)]

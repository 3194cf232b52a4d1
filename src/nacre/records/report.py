"""Scores per example for one (weights, task): the gate needs pairs, not means."""

from nacre.base.hashing import content_hash
from nacre.records.base import Record
from nacre.records.recipe import Decoding


class Report(Record):
    """What one version answered on one task's dev rows, and how each answer scored.

    Attributes:
        weights: identity of the weights that answered (artifact hash; the base's hash for the base model).
        dev: SHA-256 of the dev rows file.
        metric: the metric the gate reads; `why` says why it was chosen.
        scores: metric name to one score per example, in the order of the dev rows.
        totals: metrics that are no mean of examples (corpus BLEU, Distinct-n, perplexity).
        answers: what the model said, per example.
        latency_s: seconds of single requests, in order measured.
        notes: what was cut or decided on the way, counted, in sentences.
    """

    weights: str
    task: str
    dev: str
    rows: int
    metric: str
    why: str
    decoding: Decoding
    scores: dict[str, tuple[float, ...]]
    totals: dict[str, float]
    answers: tuple[str, ...]
    latency_s: tuple[float, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean of the metric the gate reads."""
        scores = self.scores[self.metric]
        return sum(scores) / len(scores)

    @property
    def key(self) -> str:
        """Cache key, see `report_key`."""
        return report_key(self.weights, self.dev, self.metric, self.decoding)


def report_key(weights: str, dev: str, metric: str, decoding: Decoding) -> str:
    """What makes two reports the same: weights, rows, metric and decoding. Nothing is scored twice."""
    return content_hash([weights, dev, metric, decoding.model_dump(mode="json")])

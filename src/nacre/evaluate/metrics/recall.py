"""Recall at k: whether the right one is among the k that a model of two encoders finds nearest."""

from typing import ClassVar

from nacre.evaluate.metrics.metric import Metric, Scored


class _Recall(Metric):
    """1 where a row's caption is among the `k` nearest to its picture and a picture of that caption among the `k`
    nearest to it, one half where only one of both is so, else 0. All captions and pictures of the task's rows are
    looked through; a caption that several rows share is looked for once.
    """

    reads = "ranks"
    k: ClassVar[int]

    def measure(self, scored: Scored) -> list[float]:
        """0, 0.5 or 1 per row."""
        return [sum(rank <= self.k for rank in ranks) / len(ranks) for ranks in scored.ranks]


class RecallAt1(_Recall):
    """k = 1."""

    definition = "share of pictures and captions whose nearest partner, of all in the task, is the right one"
    k = 1


class RecallAt5(_Recall):
    """k = 5."""

    definition = "share of pictures and captions with the right partner among the nearest five of the task"
    k = 5

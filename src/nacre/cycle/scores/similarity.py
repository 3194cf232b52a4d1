"""How alike the champion and the shadow answer: the cheapest look at a release, before any judge has spoken."""

from dataclasses import dataclass
from typing import Any

from nacre.cycle.workspace import Workspace
from nacre.evaluate.metrics.chrf import ChrF
from nacre.evaluate.metrics.metric import Scored
from nacre.records.release import Rollout

MOST_PAIRS = 200  # the latest; more would make a look slow


@dataclass(frozen=True)
class Similarity:
    """Mean of sentence chrF (0: nothing in common, 1: the same) over pairs that ended without an error.

    It says how much changes for users, not whether it gets better.
    """

    pairs: int
    mean: float
    same: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"pairs": self.pairs, "mean": self.mean, "same": self.same}

    def __str__(self) -> str:
        return f"likeness of {self.pairs} shadow answers to the champion's: {self.mean:.2f} chrF, {self.same} the same"


def similarity(workspace: Workspace, rollout: Rollout) -> Similarity | None:
    """Of the latest shadow pairs of a rollout; None where there are none."""
    ledger = workspace.ledger
    pairs = [pair for pair in ledger.releases.observed.pairs(rollout) if "error" not in pair.finishes]
    found = [tuple(ledger.interaction(one) for one in pair.ids) for pair in pairs[-MOST_PAIRS:]]
    answers = [(old.answer, new.answer) for old, new in found if old is not None and new is not None]
    if not answers:
        return None
    olds, news = (tuple(side) for side in zip(*answers, strict=True))
    scores = ChrF().measure(Scored(answers=news, references=olds, losses=()))
    return Similarity(len(scores), sum(scores) / len(scores), sum(old == new for old, new in answers))

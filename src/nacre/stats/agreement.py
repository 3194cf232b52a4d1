"""How far people agree in what they choose, and what their choices say."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import cohen_kappa_score

from nacre.stats.paired import paired


class Agreement(NamedTuple):
    """Chance-corrected agreement: 1 is perfect, 0 what chance would give.

    Attributes:
        name: of the measure, with its source.
        value: None where it cannot be computed, and `reason` says why.
        items: how many items it was computed from.
        raters: how many people.
    """

    name: str
    value: float | None
    items: int
    raters: int
    reason: str = ""


COHEN = "Cohen's kappa (Cohen 1960)"
WEIGHTED = "Cohen's kappa, quadratic weights (Cohen 1968)"
FLEISS = "Fleiss' kappa (Fleiss 1971)"


def agreement(answers: Sequence[Mapping[str, Hashable]], *, ordered: bool = False) -> Agreement:
    """Agreement of raters: Cohen's kappa of two, over the items that both answered; Fleiss' of more.

    Fleiss' kappa needs as many answers for each item: it takes the items of that number of answers (two at least)
    which is most frequent.

    Args:
        answers: for each item the category that each rater chose, by the rater's name.
        ordered: the categories are whole numbers; of two raters, a near miss then counts less than a far one.
    """
    raters = sorted({rater for item in answers for rater in item})
    shared = [item for item in answers if len(item) > 1]
    if len(raters) == 2:
        name = WEIGHTED if ordered else COHEN
        first, second = ([item[rater] for item in shared] for rater in raters)
        value = _cohen(first, second, ordered=ordered)
    else:
        name = FLEISS
        sizes = Counter(len(item) for item in shared)
        size = max(sizes, key=lambda one: (sizes[one], one), default=0)
        shared = [item for item in shared if len(item) == size]
        value = _fleiss([list(item.values()) for item in shared])
    reason = ""
    if not shared:
        reason = "no item was answered by two people"
    elif value is None:
        reason = "everybody always chose the same: chance would agree as well"
    return Agreement(name, value, len(shared), len(raters), reason)


def _cohen(first: Sequence[Hashable], second: Sequence[Hashable], *, ordered: bool) -> float | None:
    labels: list[Any] = sorted({*first, *second}, key=lambda label: (str(type(label)), label))
    if len(labels) < 2:
        return None
    if ordered:
        # weights go by a label's place: numbers that nobody chose lie between the others all the same
        labels = list(range(labels[0], labels[-1] + 1))
    return float(cohen_kappa_score(first, second, labels=labels, weights="quadratic" if ordered else None))


def _fleiss(items: Sequence[Sequence[Hashable]]) -> float | None:
    """(P - Pe) / (1 - Pe): P the mean share of agreeing pairs in an item, Pe what the categories' shares give."""
    labels = sorted({label for item in items for label in item}, key=str)
    if len(labels) < 2:
        return None
    counts_IK = np.array([[Counter(item)[label] for label in labels] for item in items], dtype=float)
    raters = len(items[0])
    found = float(((counts_IK**2).sum(1) - raters).mean()) / (raters * (raters - 1))
    chance = float(((counts_IK.sum(0) / counts_IK.sum()) ** 2).sum())
    return (found - chance) / (1 - chance)


class WinRate(NamedTuple):
    """Mean of 1 for a win, 0.5 for a tie, 0 for a loss, with its interval."""

    value: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


def win_rate(scores: Sequence[float], confidence: float = 0.95) -> WinRate:
    """How often one of two was preferred, with a two-sided interval, from a score from 0 to 1 for each pair.

    The two versions' scores are s and 1 - s, so the interval is the paired one of their difference.

    Raises:
        ValueError: there are no scores.
    """
    if not scores:
        raise ValueError("there are no scores")
    difference = paired([1 - score for score in scores], scores)
    level = (1 + confidence) / 2
    return WinRate(
        value=sum(scores) / len(scores),
        low=(1 - difference.upper(level)) / 2,
        high=(1 - difference.lower(level)) / 2,
        wins=sum(score > 0.5 for score in scores),
        ties=sum(score == 0.5 for score in scores),
        losses=sum(score < 0.5 for score in scores),
    )

"""How far people agree in what they choose, and what their choices say."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nacre.stats.paired import paired

Floats = NDArray[np.float64]  # legend: I items, K categories


class Agreement(NamedTuple):
    """Chance-corrected agreement: 1 is perfect, 0 what chance would give.

    Attributes:
        name: of the measure, with its source.
        value: None where it cannot be computed, and `reason` says why.
        items: how many items it was computed from.
        raters: how many people.
        low, high: two-sided interval for items drawn like these, None where there is no value.
    """

    name: str
    value: float | None
    items: int
    raters: int
    reason: str = ""
    low: float | None = None
    high: float | None = None


COHEN = "Cohen's kappa (Cohen 1960)"
WEIGHTED = "Cohen's kappa, quadratic weights (Cohen 1968)"
FLEISS = "Fleiss' kappa (Fleiss 1971)"


def agreement(
    answers: Sequence[Mapping[str, Hashable]], *, ordered: bool = False, confidence: float = 0.95
) -> Agreement:
    """Agreement of raters: Cohen's kappa of two, over the items that both answered; Fleiss' of more.

    Fleiss' kappa needs as many answers for each item: it takes the items of that number of answers (two at least)
    which is most frequent.

    The interval is that of the linearised kappa (of two raters the variance of Fleiss, Cohen & Everitt 1969, of more
    that of Gwet 2021 for drawn items) with z²/2 agreeing and z²/2 disagreeing items added, as Agresti & Coull (1998)
    do for a share: without them, raters who never differed in 100 items would be said to agree always. It is an
    interval for the items; who rates is taken as given.

    Args:
        answers: for each item the category that each rater chose, by the rater's name.
        ordered: the categories are whole numbers; of two raters, a near miss then counts less than a far one.
        confidence: of the interval.
    """
    raters = sorted({rater for item in answers for rater in item})
    shared = [item for item in answers if len(item) > 1]
    if len(raters) == 2:
        name = WEIGHTED if ordered else COHEN
        found = _cohen([(item[raters[0]], item[raters[1]]) for item in shared], ordered=ordered)
    else:
        name = FLEISS
        sizes = Counter(len(item) for item in shared)
        size = max(sizes, key=lambda one: (sizes[one], one), default=0)
        shared = [item for item in shared if len(item) == size]
        found = _fleiss([list(item.values()) for item in shared])
    if not shared:
        return Agreement(name, None, 0, len(raters), "no item was answered by two people")
    if found is None:
        reason = "everybody always chose the same: chance would agree as well"
        return Agreement(name, None, len(shared), len(raters), reason)
    low, high = found.interval(confidence)
    return Agreement(name, found.value, len(shared), len(raters), "", low, high)


class _Kappa(NamedTuple):
    """1 - (1 - P) / (1 - Pe), item by item.

    Attributes:
        agreed_I: how far the raters of an item agree, 0 to 1; P is their mean.
        chance: Pe, what agrees by chance.
        pull_I: how far an item moves Pe (its influence: the derivative, of mean nought).
    """

    agreed_I: Floats
    chance: float
    pull_I: Floats

    @property
    def value(self) -> float:
        return 1 - (1 - float(self.agreed_I.mean())) / (1 - self.chance)

    def interval(self, confidence: float) -> tuple[float, float]:
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        items, room = len(self.agreed_I), 1 - self.chance
        agreed = (float(self.agreed_I.sum()) + z * z / 2) / (items + z * z)
        influence_I = (self.agreed_I - agreed) / room - (1 - agreed) / room**2 * self.pull_I
        added = (z * z / 2) * ((1 - agreed) ** 2 + agreed**2) / room**2
        reach = z * math.sqrt(float((influence_I**2).sum()) + added) / (items + z * z)
        centre = 1 - (1 - agreed) / room
        return max(-1.0, min(centre - reach, self.value)), min(1.0, max(centre + reach, self.value))


def _cohen(pairs: Sequence[tuple[Hashable, Hashable]], *, ordered: bool) -> _Kappa | None:
    labels: list[Any] = sorted({label for pair in pairs for label in pair}, key=lambda one: (str(type(one)), one))
    if len(labels) < 2:
        return None
    if ordered:
        # weights go by a label's place: numbers that nobody chose lie between the others all the same
        labels = list(range(labels[0], labels[-1] + 1))
    places = {label: place for place, label in enumerate(labels)}
    first_I = np.array([places[one] for one, _ in pairs])
    second_I = np.array([places[other] for _, other in pairs])
    first_K, second_K = (np.bincount(one, minlength=len(labels)) / len(pairs) for one in (first_I, second_I))
    weights_KK = np.eye(len(labels))
    if ordered:
        apart_KK = np.subtract.outer(np.arange(len(labels)), np.arange(len(labels)))
        weights_KK = 1 - (apart_KK / (len(labels) - 1)) ** 2
    chance = float(first_K @ weights_KK @ second_K)
    pull_I = (weights_KK @ second_K)[first_I] + (first_K @ weights_KK)[second_I] - 2 * chance
    return _Kappa(weights_KK[first_I, second_I], chance, pull_I)


def _fleiss(items: Sequence[Sequence[Hashable]]) -> _Kappa | None:
    """P is the mean share of agreeing pairs in an item, Pe what the categories' shares over all items give."""
    labels = sorted({label for item in items for label in item}, key=str)
    if len(labels) < 2:
        return None
    counts_IK = np.array([[Counter(item)[label] for label in labels] for item in items], dtype=float)
    raters = len(items[0])
    agreed_I = ((counts_IK**2).sum(1) - raters) / (raters * (raters - 1))
    shares_K = counts_IK.mean(0) / raters
    chance = float(shares_K @ shares_K)
    return _Kappa(agreed_I, chance, 2 * (counts_IK @ shares_K / raters - chance))


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

"""Anytime-valid comparison of two arms that answer different requests: numbers in, numbers out.

Every bound and e-value here holds at all sample sizes at once, so it may be looked at as often as one likes and
acted on at any look (Ville's inequality): the chance that the evidence for something untrue *ever* reaches
1 / alpha is at most alpha.

Two arms become one sequence by `blocks`: the requests, in the order in which they *began*, are cut into the shortest
runs that hold an answer of either arm, and each run gives one difference. A difference compares answers of the same
minutes, so a busy hour or a hard day moves both arms alike, and shares that change from step to step do no harm.
Requests are taken to be independent given their arm; many requests of one user are worth less than they count.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

_BETS = np.geomspace(0.003, 0.95, 24)  # shares of the capital that are staked, all at once
_STEPS = 40  # halvings when a bound is searched: to 1e-12
CLIP = 8.0  # seconds beyond so many times what is typical, or below that part of it, count as being there
_CONCENTRATION = 100.0  # of the prior around the expected split, in arrivals


def blocks(arms: Iterable[bool], values: Iterable[float]) -> list[float]:
    """One difference for each shortest run of observations that holds both arms: mean of the old - mean of the new.

    A run's end depends on which arm answered, never on how well, so a difference has the mean of the true one.

    Args:
        arms: of each observation, in the order in which the requests began, whether the new arm answered.
        values: what was observed.
    """
    found: list[float] = []
    sums, counts = [0.0, 0.0], [0, 0]
    for arm, value in zip(arms, values, strict=True):
        sums[bool(arm)] += value
        counts[bool(arm)] += 1
        if all(counts):
            found.append(sums[0] / counts[0] - sums[1] / counts[1])
            sums, counts = [0.0, 0.0], [0, 0]
    return found


@dataclass(frozen=True)
class Drop:
    """Differences old - new in [-1, 1], in the order they came: how much was lost, at any look.

    The e-process bets against "the mean is at most m" with 24 stakes at once and averages their capitals
    (Waudby-Smith and Ramdas 2024, JRSS B 86, 1-27, section 4: betting with a fixed stake is a martingale, and so is
    a mixture). With fixed stakes the value does not depend on the order of the differences; the bets of
    `nacre.stats.sequential` learn, and need the order fixed beforehand. Which rows are there must not depend on the
    arm: one whose slow answers are still under way has only its fast ones, and no test mends that.
    """

    differences: Sequence[float]

    def __post_init__(self) -> None:
        wrong = next((value for value in self.differences if not -1 <= value <= 1), None)
        if wrong is not None:
            raise ValueError(f"a difference of {wrong} lies outside -1 to 1")

    @property
    def count(self) -> int:
        """How many differences there are."""
        return len(self.differences)

    @property
    def mean(self) -> float:
        """The mean drop; nought where nothing was seen."""
        return math.fsum(self.differences) / self.count if self.count else 0.0

    def more_than(self, bar: float) -> float:
        """E-value against "the true drop is at most `bar`": large when more was lost."""
        return math.exp(min(self._log_capital(bar, 1.0), 700.0))

    def less_than(self, bar: float) -> float:
        """E-value against "the true drop is at least `bar`": large when less was lost."""
        return math.exp(min(self._log_capital(bar, -1.0), 700.0))

    def lower(self, alpha: float) -> float:
        """A bound that the true drop is never below, at any look, but with a chance of `alpha`."""
        return self._bound(alpha, 1.0)

    def upper(self, alpha: float) -> float:
        """A bound that the true drop is never above, at any look, but with a chance of `alpha`."""
        return -self._bound(alpha, -1.0)

    @cached_property
    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Each different value and how often it came: rates have few."""
        values, counts = np.unique(np.asarray(self.differences, dtype=float), return_counts=True)
        return values, counts.astype(float)

    def _log_capital(self, bar: float, sign: float) -> float:
        """Log of the mean capital after betting that `sign` times the mean is above `sign` times `bar`."""
        values, counts = self._counted
        if not len(values):
            return 0.0
        above = 1 + sign * bar  # the hypothesis on the scale where -1 becomes 0
        if above <= 0:
            return math.inf if np.any(sign * values > -1) else 0.0
        ratios = (1 + sign * values) / above - 1
        logs = np.log1p(_BETS[:, None] * ratios[None, :]) @ counts
        return float(np.logaddexp.reduce(logs) - math.log(len(_BETS)))

    def _bound(self, alpha: float, sign: float) -> float:
        """The largest bar that is refuted, times `sign`: the capital falls as the bar rises."""
        need = -math.log(alpha)
        low, high = -1.0, 1.0
        if self._log_capital(sign * low, sign) < need:
            return low
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if self._log_capital(sign * middle, sign) >= need:
                low = middle
            else:
                high = middle
        return low


def mean_bounds(values: Sequence[float], alpha: float) -> tuple[float, float]:
    """Bounds that the mean of values in [0, 1] never leaves, at any look, but with a chance of `alpha`.

    Two of `Drop`'s bounds, each with half of the chance, on the scale where 0 is -1.

    Raises:
        ValueError: a value outside 0 to 1.
    """
    seen = Drop([2 * value - 1 for value in values])
    return (seen.lower(alpha / 2) + 1) / 2, (seen.upper(alpha / 2) + 1) / 2


def clipped_logs(seconds: Iterable[float], typical: float) -> list[float]:
    """Log of seconds over what is typical, on a scale where 0 is `CLIP` times as fast and 1 is `CLIP` times as slow.

    What lies beyond counts as lying at the end. So the values are bounded, a few extreme ones cannot decide, and the
    tests of bounded means hold for them however few or skewed they are.
    """
    reach = math.log(CLIP)
    return [(min(max(math.log(one / typical), -reach), reach) / reach + 1) / 2 for one in seconds]


def log_drop(rise: float) -> float:
    """A rise of the seconds, as a share, on the scale of `clipped_logs`; the inverse is `rise_of`."""
    return math.log1p(rise) / math.log(CLIP) / 2


def rise_of(drop: float) -> float:
    """The rise of the typical seconds, as a share, that a difference on the scale of `clipped_logs` stands for."""
    return math.expm1(drop * math.log(CLIP) * 2)


def rate_bounds(hits: int, trials: int, alpha: float) -> tuple[float, float]:
    """Bounds that a rate never leaves at any look but with a chance of `alpha`, from counts alone.

    The beta-binomial mixture (Robbins 1970, Annals of Mathematical Statistics 41, 1397-1409) with a uniform prior.

    Raises:
        ValueError: more hits than trials.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    if not trials:
        return 0.0, 1.0
    mixed = float(betaln(hits + 1, trials - hits + 1))

    def refuted(rate: float) -> bool:
        return mixed - float(xlogy(hits, rate) + xlog1py(trials - hits, -rate)) >= -math.log(alpha)

    seen = hits / trials
    return _edge(refuted, 0.0, seen), _edge(refuted, 1.0, seen)


def _edge(refuted: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where `refuted` turns, between a rate that is refuted (or the end of the scale) and one that is not."""
    if not refuted(outside):
        return outside
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        if refuted(middle):
            outside = middle
        else:
            inside = middle
    return inside


def split_evidence(periods: Iterable[tuple[Mapping[str, int], Mapping[str, float]]]) -> float:
    """E-value against "newcomers are sent to the arms in the shares that were set": a sequential ratio check.

    Each period has shares of its own; the evidence of several periods multiplies. In a period it is the
    Dirichlet-multinomial mixture of Lindon and Malek 2022 (NeurIPS, "Anytime-valid inference for multinomial count
    data") with the prior centred on the shares. 1 means nothing speaks against the split; at 1 / alpha it is refuted;
    somebody in an arm without a share refutes it at once.

    Args:
        periods: newcomers by arm, and the share of each arm (they sum to one).

    Raises:
        ValueError: shares that do not sum to one.
    """
    total = 0.0
    for counts, shares in periods:
        if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
            raise ValueError(f"the shares {dict(shares)} do not sum to one")
        if any(number and not shares.get(arm) for arm, number in counts.items()):
            return math.inf
        open_arms = [arm for arm, share in shares.items() if share > 0]
        seen = np.array([counts.get(arm, 0) for arm in open_arms], dtype=float)
        expected = np.array([shares[arm] for arm in open_arms])
        if len(open_arms) < 2 or not seen.sum():
            continue
        prior = _CONCENTRATION * expected
        total += float(_log_dirichlet(prior + seen) - _log_dirichlet(prior) - seen @ np.log(expected))
    return math.exp(min(total, 700.0))


def _log_dirichlet(weights: np.ndarray) -> float:
    """Log of the Dirichlet distribution's normaliser."""
    return math.fsum(map(math.lgamma, weights)) - math.lgamma(float(weights.sum()))

"""Anytime-valid comparison of two arms that answer different requests: numbers in, numbers out.

Every bound and e-value here holds at all sample sizes at once, so it may be looked at as often as one likes and
acted on at any look (Ville's inequality): the chance that the evidence for something untrue *ever* reaches
1 / alpha is at most alpha. `Drift`, which is for latency, holds only in the limit of many observations and says so.

Two arms become one sequence by `blocks`: the requests, in order of time, are cut into the shortest runs that hold an
answer of either arm, and each run gives one difference. A difference compares answers of the same minutes, so a
busy hour or a hard day moves both arms alike, and shares that change from step to step do no harm. Requests are
taken to be independent given their arm; many requests of one user are worth less than they count.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

_BETS = np.geomspace(0.003, 0.95, 24)  # shares of the capital that are staked, all at once
_STEPS = 40  # halvings when a bound is searched: to 1e-12
_TUNED_FOR = 300.0  # number of differences at which the asymptotic sequence is tightest
_FEWEST = 30  # differences below which an asymptotic statement is not made
_CONCENTRATION = 100.0  # of the prior around the expected split, in arrivals


def blocks(arms: Iterable[bool], values: Iterable[float]) -> list[float]:
    """One difference for each shortest run of observations that holds both arms: mean of the old - mean of the new.

    A run's end depends on which arm answered, never on how well, so a difference has the mean of the true one.

    Args:
        arms: of each observation, in order of time, whether the new arm answered.
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
    a mixture). With fixed stakes the value does not depend on the order, so rows that reach the ledger a moment late
    change nothing; the bets of `nacre.stats.sequential` learn, and need the order fixed beforehand.
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


@dataclass(frozen=True)
class Drift:
    """Differences without a known bound (log seconds): an asymptotic confidence sequence of their mean.

    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Annals of Statistics 52, "Time-uniform central limit theory
    and asymptotic confidence sequences", the one-sided Gaussian mixture. It holds at all looks together in the limit
    of many observations; below 30 nothing is claimed.
    """

    differences: Sequence[float]

    @property
    def count(self) -> int:
        """How many differences there are."""
        return len(self.differences)

    @property
    def mean(self) -> float:
        """The mean difference; nought where nothing was seen."""
        return math.fsum(self.differences) / self.count if self.count else 0.0

    def lower(self, alpha: float) -> float:
        """A bound that the true mean is below, at some look, with a chance of about `alpha` at most."""
        return self.mean - self._reach(alpha)

    def upper(self, alpha: float) -> float:
        """A bound that the true mean is above, at some look, with a chance of about `alpha` at most."""
        return self.mean + self._reach(alpha)

    def _reach(self, alpha: float) -> float:
        if self.count < _FEWEST:
            return math.inf
        spread = float(np.std(self.differences, ddof=1))
        wish = -2 * math.log(2 * alpha)
        rho2 = (wish + math.log(wish + 1)) / _TUNED_FOR
        grown = self.count * rho2 + 1
        inside = math.log1p(math.sqrt(grown) / (2 * alpha))
        return spread * math.sqrt(2 * grown / (self.count**2 * rho2) * inside)


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

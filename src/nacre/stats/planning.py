"""What a number of rows can show, and how many rows it takes."""

import math
from statistics import NormalDist

from scipy.special import bdtr, stdtrit

from nacre.stats.paired import tango_upper, unseen_bound

POWER = 0.8
MOST_ROWS = 10**9


def smallest_drop(rows: int, psi: float, *, level: float, binary: bool, power: float = POWER) -> float:
    """The smallest margin that an unchanged model passes with probability `power`.

    It is the upper bound at the largest drop that chance alone exceeds with probability 1 - `power`
    at most. If nothing got worse, each changed right/wrong row is lost or gained with even odds
    (McNemar), so that drop is a quantile of the binomial; for other scores it is z sqrt(psi / rows).
    `psi` says how much changed and not in which direction: a nuisance parameter, so that reading it
    off the same rows does not favour either answer (as in blinded sample-size re-estimation, Friede
    and Kieser 2013, Pharmaceutical Statistics 12, 141-146).

    Args:
        rows: number of pairs.
        psi: mean squared difference, see `Paired.psi`.
        level: one-sided level of the bound.
        binary: whether scores are right/wrong.
        power: how often the margin is to be passed.
    """
    if rows < 2:
        return 1.0
    unseen = unseen_bound(rows, level)
    if binary:
        changed = round(psi * rows)
        lost = _even_odds_quantile(changed, power)
        return max(unseen, tango_upper(lost, changed - lost, rows, level))
    error = math.sqrt(psi / rows)
    spread = math.hypot(float(stdtrit(rows - 1, level)) * error, unseen)
    return min(1.0, NormalDist().inv_cdf(power) * error + spread)


def _even_odds_quantile(count: int, power: float) -> int:
    """The least number that `count` fair coins exceed with probability 1 - `power` at most."""
    guess = count / 2 + NormalDist().inv_cdf(power) * math.sqrt(count) / 2
    number = max(0, math.floor(guess) - 2)
    while bdtr(number, count, 0.5) < power:
        number += 1
    return number


def rows_to_show(
    drop: float, psi: float, *, level: float, binary: bool, more_than: int = 1, power: float = POWER
) -> int:
    """About how many rows have a `smallest_drop` of at most `drop`, if as large a share of them changes.

    Args:
        drop: what is to be shown.
        psi: mean squared difference, see `Paired.psi`.
        level: one-sided level of the bound.
        binary: whether scores are right/wrong.
        more_than: a number of rows known to be too few.
        power: how often the margin is to be passed.

    Raises:
        ValueError: `drop` is not positive: no number of rows shows it.
    """
    if drop <= 0:
        raise ValueError("no number of rows shows that nothing at all was lost")
    short, enough = more_than, more_than + 1
    while smallest_drop(enough, psi, level=level, binary=binary, power=power) > drop and enough < MOST_ROWS:
        short, enough = enough, enough * 2
    while enough - short > 1:
        middle = (short + enough) // 2
        if smallest_drop(middle, psi, level=level, binary=binary, power=power) > drop:
            short = middle
        else:
            enough = middle
    return enough


def rows_to_decide(drop: float, variance: float, margin: float, *, level: float, fail_level: float) -> int | None:
    """About how many rows decide with probability `POWER`, if the drop stays as it was observed.

    Either the drop is shown to be below `margin` (at `level`), or to be above nought (at `fail_level`),
    whichever takes fewer rows. None when neither can be.
    """
    normal = NormalDist()
    answers = []
    if drop < margin < 1:
        quantiles = normal.inv_cdf(level) + normal.inv_cdf(POWER)
        unseen = min(math.log1p(-level) / math.log1p(-margin), MOST_ROWS) if margin > 0 else 0.0
        answers.append(max(_rows(variance, quantiles, margin - drop), unseen))
    if drop > 0:
        quantiles = normal.inv_cdf(fail_level) + normal.inv_cdf(POWER)
        answers.append(_rows(variance, quantiles, drop))
    return math.ceil(min(answers)) if answers else None


def _rows(variance: float, quantiles: float, distance: float) -> float:
    """Rows at which `quantiles` standard errors fit into a distance; never more than `MOST_ROWS`."""
    wanted = quantiles * math.sqrt(variance)
    return (wanted / distance) ** 2 if wanted < distance * math.sqrt(MOST_ROWS) else MOST_ROWS

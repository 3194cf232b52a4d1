"""What a number of rows can show, and how many rows it takes."""

import math
from statistics import NormalDist

from nacre.stats.paired import tango_upper, unseen_bound

POWER = 0.8
MOST_ROWS = 10**9


def smallest_drop(rows: int, psi: float, *, level: float, binary: bool) -> float:
    """The smallest margin that an unchanged model passes with probability `POWER`.

    The upper bound of a drop of nought is below ``bound(psi) + z * sqrt(psi / rows)`` with that
    probability, since the observed drop then varies around nought with variance psi / rows. `psi`
    says how much changed and not in which direction: a nuisance parameter, so that reading it off
    the same rows does not favour either answer (as in blinded sample-size re-estimation, Friede and
    Kieser 2013, Pharmaceutical Statistics 12, 141-146).

    Args:
        rows: number of pairs.
        psi: mean squared difference, see `Paired.psi`.
        level: one-sided level of the bound.
        binary: whether scores are right/wrong.
    """
    if rows < 2:
        return 1.0
    unseen, error = unseen_bound(rows, level), math.sqrt(psi / rows)
    if binary:
        half = psi * rows / 2
        bound = max(unseen, tango_upper(half, half, rows, level))
    else:
        bound = math.hypot(NormalDist().inv_cdf(level) * error, unseen)
    return min(1.0, bound + NormalDist().inv_cdf(POWER) * error)


def rows_to_show(drop: float, psi: float, *, level: float, binary: bool) -> int:
    """The least rows whose `smallest_drop` is at most `drop`, if as large a share of them changes.

    Raises:
        ValueError: `drop` is not positive: no number of rows shows it.
    """
    if drop <= 0:
        raise ValueError("no number of rows shows that nothing at all was lost")
    if drop >= 1:
        return 2
    enough = 2
    while smallest_drop(enough, psi, level=level, binary=binary) > drop and enough < MOST_ROWS:
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        if smallest_drop(middle, psi, level=level, binary=binary) > drop:
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
        unseen = math.log1p(-level) / math.log1p(-margin) if margin > 0 else 0.0
        answers.append(max(variance * (quantiles / (margin - drop)) ** 2, unseen))
    if drop > 0:
        quantiles = normal.inv_cdf(fail_level) + normal.inv_cdf(POWER)
        answers.append(variance * (quantiles / drop) ** 2)
    return min(math.ceil(min(answers)), MOST_ROWS) if answers else None

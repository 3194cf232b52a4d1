"""What a number of rows can show with the sequential test, and how many rows it takes.

The first passage of the capital over its limit has no formula for few rows, so it is played out: with a fixed seed,
for a model whose answers change in a share `psi` of the rows and get better as often as worse. Large numbers of rows
are brought down to `ROWS` by two scalings: seldom changes are a Poisson process (rows / c, psi * c, drop * c), and many
of them a Brownian motion (rows / c, drop * sqrt(c)).
"""

import math
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from nacre.stats.planning import MOST_ROWS, POWER
from nacre.stats.sequential import NO_MARGIN, PRIOR_ROWS, Floats, Sequential, passing

ROWS = 400
EXPERIMENTS = 2000
PASSAGE = 4.7  # rows * drop^2 / psi at which a Brownian motion has passed log 5 with probability 0.8: a first guess
SELDOM = 0.1  # up to this share of changed rows the Poisson scaling is used
FINE = 1.01  # drops are found to a hundredth of themselves
LEAST_PSI, PSI_STEP = 0.002, 1.25  # shares of changed rows that are played out; between them lies a straight line


def smallest_drop_sequential(rows: int, psi: float, *, accept: float, power: float = POWER) -> float:
    """The smallest margin that an unchanged model passes within `rows` with probability `power`.

    All questions are put to the same draws, so that more rows never show less.

    Args:
        rows: number of pairs.
        psi: mean squared difference, see `Paired.psi`.
        accept: what the capital has to reach, see `Sequential`.
        power: how often the margin is to be passed.
    """
    if rows < 2:
        return 1.0
    scale = max(1.0, rows / ROWS)
    seldom = min(scale, max(1.0, SELDOM / psi)) if psi > 0 else scale
    often = scale / seldom
    found = _between(min(rows, ROWS), min(psi * seldom, 1.0), accept, power)
    return min(1.0, found / math.sqrt(often) / seldom)


def _between(rows: int, psi: float, accept: float, power: float) -> float:
    """What is played out at the two nearest values of psi, joined by a straight line."""
    step = math.floor(math.log(psi / LEAST_PSI) / math.log(PSI_STEP)) if psi >= LEAST_PSI else -1
    below = LEAST_PSI * PSI_STEP**step if step >= 0 else 0.0
    above = min(1.0, LEAST_PSI * PSI_STEP ** (step + 1))
    low = _smallest(rows, below, accept, power)
    if psi <= below or above <= below:
        return low
    return low + (psi - below) / (above - below) * (_smallest(rows, above, accept, power) - low)


@lru_cache(maxsize=4096)
def _smallest(rows: int, psi: float, accept: float, power: float) -> float:
    """The smallest drop for few rows, played out: a power of `FINE`."""
    differences = _unchanged(rows, psi)
    near = max(math.sqrt(PASSAGE * psi / rows), 1.5 * math.log(accept) / rows)
    low, high = (math.floor(math.log(near * factor) / math.log(FINE)) for factor in (0.4, 6))
    while high - low > 1:
        middle = (low + high) // 2
        if passing(differences, FINE**middle, accept=accept) >= power:
            high = middle
        else:
            low = middle
    return float(min(1.0, FINE**high))


def _unchanged(rows: int, psi: float) -> Floats:
    """Experiments on a model that got better as often as worse: differences of -1, 0 and 1."""
    if psi == 0:
        return np.zeros((1, rows))
    draws = _draws()[:, :rows]
    return np.where(draws < psi / 2, 1.0, np.where(draws < psi, -1.0, 0.0))


@lru_cache(maxsize=1)
def _draws() -> Floats:
    return np.random.default_rng(0).random((EXPERIMENTS, ROWS))


def rows_to_show_sequential(drop: float, psi: float, *, accept: float, more_than: int = 1, power: float = POWER) -> int:
    """About how many rows have a `smallest_drop_sequential` of at most `drop`.

    Raises:
        ValueError: `drop` is not positive: no number of rows shows it.
    """
    if drop <= 0:
        raise ValueError("no number of rows shows that nothing at all was lost")
    if drop * MOST_ROWS <= math.log(accept):
        return MOST_ROWS
    rows = float(max(2, math.log(accept) / drop, PASSAGE * psi / drop**2))
    for _ in range(8):
        ratio = smallest_drop_sequential(round(rows), psi, accept=accept, power=power) / drop
        if abs(ratio - 1) < 0.03 or rows > MOST_ROWS:
            break
        rows *= ratio**2 if rows * psi > 10 else ratio  # changes make a random walk, their absence a straight line
    return min(max(math.ceil(rows), more_than + 1), MOST_ROWS)


def rows_to_stop(test: Sequential, drop: float, psi: float, *, alarm: float, accept: float) -> int | None:
    """About how many rows more stop the test with probability `POWER`, if the drop stays as it was observed.

    Each capital's logarithm is taken for a Brownian motion from where it stands now. None where neither would grow.

    Args:
        test: undecided so far.
        drop: observed so far.
        psi: mean squared difference so far.
        alarm, accept: see `Sequential`.
    """
    margin, spread = test.margin or NO_MARGIN, max(psi, 1 / (PRIOR_ROWS + test.rows_used))
    against_drop, against_margin = test.logs
    bet = _bet(margin, spread)
    answers = [
        _passage(math.log(accept) - against_margin, bet * (test.margin - drop) - bet**2 * spread / 2, bet, spread)
    ]
    if drop > 0:
        bet = _bet(max(drop, margin), spread)
        answers.append(_passage(math.log(alarm) - against_drop, bet * drop - bet**2 * spread / 2, bet, spread))
    found = [rows for rows in answers if rows is not None]
    return min(found) if found else None


def _bet(effect: float, psi: float) -> float:
    return 2 * effect / (psi + math.sqrt(psi**2 + 4 * effect**2))


def _passage(distance: float, drift: float, bet: float, psi: float) -> int | None:
    """Rows after which a Brownian motion with drift has risen by `distance` with probability `POWER`."""
    if drift <= 0:
        return None
    if distance <= 0:
        return 1
    if distance >= drift * MOST_ROWS:
        return MOST_ROWS
    deviation = bet * math.sqrt(psi)

    def reached(rows: float) -> float:
        width = deviation * math.sqrt(rows)
        mirrored = math.exp(min(2 * drift * distance / deviation**2, 700)) * ndtr(-(drift * rows + distance) / width)
        return float(ndtr((drift * rows - distance) / width) + mirrored)

    low, high = 0.0, distance / drift
    while reached(high) < POWER and high < MOST_ROWS:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < POWER else (low, middle)
    return min(math.ceil(high), MOST_ROWS)

"""Experiments on models whose answers change by chance, for tests and for the printed table of the benchmark."""

import math

import numpy as np
from numpy.typing import NDArray


def changes(experiments: int, rows: int, psi: float, drop: float, *, seed: int = 0) -> NDArray[np.float64]:
    """Differences before - after of right/wrong answers: a share `psi` of the rows changes, and the mean is `drop`."""
    draws = np.random.default_rng(seed).random((experiments, rows))
    return np.where(draws < (psi + drop) / 2, 1.0, np.where(draws < psi, -1.0, 0.0))


def smooth(experiments: int, rows: int, spread: float, drop: float, *, seed: int = 0) -> NDArray[np.float64]:
    """Differences of scores that are not just right or wrong: uniform around `drop`, and half the rows unchanged.

    The mean of all rows is `drop`.
    """
    random = np.random.default_rng(seed)
    moved = random.random((experiments, rows)) < 0.5
    return np.where(moved, 2 * drop + spread * random.uniform(-1, 1, (experiments, rows)), 0.0)


def noise(share: float, experiments: int) -> float:
    """Two standard errors of a share that was simulated."""
    return 2 * math.sqrt(share * (1 - share) / experiments)

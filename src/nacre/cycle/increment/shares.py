"""How much of each adapter a merge takes, looked for on kept train rows.

A simplex search (Nelder and Mead 1965, as scipy has it) begins with equal shares and with each member alone, so that
what it finds is on those rows no worse than any of these. What is made small is the mean over tasks of the loss of
their answers. Dev rows have no part in it: the gate judges by them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from nacre.base.errors import InputError
from nacre.base.progress import progress
from nacre.model.ensemble import set_shares
from nacre.model.losses import answer_losses
from nacre.records import Example
from nacre.records.combination import Searched

ROWS = 64  # of each task, that each try is scored on
LARGEST = 2.0  # a member may be taken so many times
DIGITS = 3  # of a share: finer ones are the rows' own noise


def least_budget(members: int) -> int:
    """Evaluations that the search needs to take its first step: where it begins, and one more."""
    return members + 2


def check_budget(budget: int, members: int) -> None:
    """Refuse a search that could not take a step.

    Raises:
        InputError: it could not.
    """
    if budget < least_budget(members):
        what = f"{budget} evaluations are too few: equal shares and {members} members alone are where it begins"
        raise InputError(what, where="--search", fix=f"give at least {least_budget(members)}")


def search(
    peft: Any, names: Sequence[str], rows: Mapping[str, Sequence[Example]], tokenizer: Any, max_length: int, budget: int
) -> tuple[tuple[float, ...], Searched]:
    """The shares of these adapters with the least loss on the rows, and what was done to find them.

    Args:
        peft: the base with the adapters on it; their shares are changed.
        names: of the adapters in it.
        rows: by task, rows with answers; none is empty.
        tokenizer: of the model.
        max_length: tokens of a row.
        budget: most evaluations.
    """
    tried: dict[tuple[float, ...], float] = {}

    def loss(shares: NDArray[np.float64]) -> float:
        key = tuple(round(float(share), DIGITS) for share in shares)
        if key not in tried:
            set_shares(peft, dict(zip(names, key, strict=True)))
            tried[key] = _loss(peft, rows, tokenizer, max_length)
            advance(1)
        return tried[key]

    equal = np.full(len(names), 1 / len(names))
    with progress("looking for shares", budget) as advance:
        before = loss(equal)
        minimize(
            loss,
            equal,
            method="Nelder-Mead",
            bounds=[(0.0, LARGEST)] * len(names),
            options={"maxfev": budget, "initial_simplex": np.vstack([equal, np.eye(len(names))]), "xatol": 0.01},
        )
    best = min(tried, key=tried.__getitem__)
    count = sum(map(len, rows.values()))
    return best, Searched(evaluations=len(tried), rows=count, before=before, after=tried[best])


def _loss(model: Any, rows: Mapping[str, Sequence[Example]], tokenizer: Any, max_length: int) -> float:
    """Mean over tasks of the mean loss of their answers, in nats per token."""
    found = []
    for examples in rows.values():
        losses = answer_losses(model, tokenizer, examples, max_length)
        found.append(sum(one.nll for one in losses) / max(1, sum(one.tokens for one in losses)))
    mean = sum(found) / len(found)
    return mean if math.isfinite(mean) else math.inf

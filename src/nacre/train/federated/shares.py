"""Rows dealt out to simulated parties: the same of every class to each, or skewed as parties' rows are."""

from collections.abc import Sequence

import numpy as np

from nacre.base.errors import InputError
from nacre.data.strata import clusters_for, stratify
from nacre.records import Example


def deal(rows: Sequence[Example], parties: int, skew: float | None, seed: int) -> list[list[Example]]:
    """Rows for each party, in their order; every row goes to exactly one, and nobody goes without.

    Classes are those of `nacre.data.strata`: answers that come back, or else clusters of texts.

    Args:
        rows: what there is.
        parties: how many share it.
        skew: of each class, the parties' shares are drawn from a symmetric Dirichlet distribution with this parameter
            (Hsu et al. 2019, arXiv 1909.06335): 0.1 gives most of a class to one or two, 100 about the same to all.
            None: exactly the same to all, but for a remainder.
        seed: of the draw.

    Raises:
        InputError: fewer rows than parties.
    """
    if len(rows) < parties:
        fix = "simulate fewer parties"
        raise InputError(f"{len(rows)} rows cannot be dealt out to {parties} parties", where="--simulate", fix=fix)
    draw = np.random.default_rng(seed)
    dealt: list[list[int]] = [[] for _ in range(parties)]
    for places in stratify(rows, clusters=clusters_for(len(rows), parties), seed=seed).values():
        mixed = draw.permutation(places)
        if skew is None:
            first = min(range(parties), key=lambda party: len(dealt[party]))
            parts = [mixed[(party - first) % parties :: parties] for party in range(parties)]
        else:
            ends = (np.cumsum(draw.dirichlet([skew] * parties)) * len(mixed)).round().astype(int)
            parts = np.split(mixed, ends[:-1])
        for party, part in enumerate(parts):
            dealt[party] += part.tolist()
    while not all(dealt):  # nobody can train on nothing
        dealt[[bool(held) for held in dealt].index(False)].append(max(dealt, key=len).pop())
    return [[rows[place] for place in sorted(held)] for held in dealt]

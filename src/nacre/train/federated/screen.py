"""What is refused before it is brought together: other tensors than were sent out, no numbers, updates too long."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nacre.train.federated.tensors import Arrays, length

FAR = 5.0  # times the median length of a round's updates: nobody's rows are that different
ENOUGH = 3  # answers from which on a median says what is usual
LARGE = 4.0  # times the median number of rows: nobody weighs more


@dataclass(frozen=True)
class Answer:
    """What one party sent: tensors, and how many rows it says they were learned from."""

    node: int
    arrays: Mapping[str, np.ndarray[Any, Any]]
    rows: int
    loss: float | None = None


def fault(arrays: Mapping[str, np.ndarray[Any, Any]], sent: Arrays) -> str | None:
    """Why an adapter cannot be one that was learned from `sent`; None where it can."""
    if set(arrays) != set(sent):
        return "other names"
    if any(arrays[name].shape != one.shape or arrays[name].dtype != one.dtype for name, one in sent.items()):
        return "other shapes"
    if not all(np.isfinite(one).all() for one in arrays.values()):
        return "not finite"
    return None


def screened(answers: Sequence[Answer], sent: Arrays) -> tuple[list[Answer], Counter[str]]:
    """The answers that can be used, and how many could not, by reason.

    An update that is `FAR` times longer than the median is refused. That stops who shouts; who lies in a normal voice
    is left to the aggregation.
    """
    refused: Counter[str] = Counter()
    kept: list[Answer] = []
    for answer in answers:
        reason = "no rows" if answer.rows < 1 else fault(answer.arrays, sent)
        if reason:
            refused[reason] += 1
        else:
            kept.append(answer)
    lengths = [length(answer.arrays, sent) for answer in kept]
    refused["unchanged"] = lengths.count(0.0)  # who trained has moved something
    kept = [answer for answer, moved in zip(kept, lengths, strict=True) if moved]
    lengths = [moved for moved in lengths if moved]
    if len(kept) >= ENOUGH:
        limit = FAR * statistics.median(lengths)
        near = [answer for answer, moved in zip(kept, lengths, strict=True) if moved <= limit]
        refused["too far away"] += len(kept) - len(near)
        kept = near
    return kept, +refused


def weights_of(answers: Sequence[Answer], *, equal: bool) -> list[float]:
    """How much each answer weighs in a mean: its rows, but at most `LARGE` times the median; or all the same."""
    if equal or not answers:
        return [1.0] * len(answers)
    most = LARGE * statistics.median(answer.rows for answer in answers)
    return [min(float(answer.rows), most) for answer in answers]

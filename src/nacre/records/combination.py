"""How a version was put together from adapters on one base, and what that gained and costs."""

from typing import Literal

from nacre.records.base import Record
from nacre.records.compression import Weighed

Together = Literal["vote", "mean", "weighted", "layers"]  # ways whose members stay apart
By = Literal["vote", "mean", "weighted", "layers", "merge"]


class Combining(Record):
    """What was asked for.

    Attributes:
        by: vote: each answers, most equal answers win; mean, weighted: their probabilities of the next token are
            averaged; layers: what they add to the weights is summed, member by member; merge: the same as one adapter.
        members: the versions.
        weights: as they were given; empty where the way has its own.
        search: merge: most evaluations that the search for weights may take; 0: none.
    """

    by: By
    members: tuple[int, ...]
    weights: tuple[float, ...] = ()
    search: int = 0


class Member(Record):
    """One of the versions put together.

    Attributes:
        weight: of its probabilities, or of what it adds to the weights; 1 of a vote.
        score: mean of its dev scores over all tasks of the combined version; None where none has dev rows.
    """

    version: int
    artifact: str
    weight: float
    score: float | None = None


class Searched(Record):
    """How the weights of a merge were found.

    Attributes:
        evaluations: how many weights were tried.
        rows: kept train rows that each was tried on; none of them is a dev row.
        before, after: mean loss of the tasks, in nats per token, with equal shares and with what was found.
    """

    evaluations: int
    rows: int
    before: float
    after: float


class Combined(Record):
    """What came of it.

    Attributes:
        how: what was asked for.
        members: best dev score first, which is the order that decides a tie.
        passes: forward passes of the base that one token takes, for all members together.
        before, after: the best single member and the combined version, measured side by side.
        same_answers: share of the dev rows that both answer alike; None where nothing is answered.
        same_tokens: share of the answers' tokens that are the same up to the first one that differs.
        searched: None where the weights were not searched.
    """

    how: Combining
    members: tuple[Member, ...]
    passes: int
    before: Weighed
    after: Weighed
    same_answers: float | None = None
    same_tokens: float | None = None
    searched: Searched | None = None

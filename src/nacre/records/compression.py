"""How a version was made smaller out of another one, and what that gained and cost."""

from typing import Literal

from nacre.records.base import Record

Smaller = Literal["int8", "int4", "pruned", "merged"]


class Compressing(Record):
    """What was asked for.

    Attributes:
        to: what the weights become.
        method: how, by the names of `nacre.model.smaller`; empty where there is one way only.
        keep: pruned: share of the linear layers' weights that stay, but the head's.
        heal: pruned: passes over the kept rows afterwards, in which the zeros stay; 0 is none.
    """

    to: Smaller
    method: str = ""
    keep: float = 1.0
    heal: float = 0.0


class Weighed(Record):
    """What weights take and give.

    Attributes:
        size_bytes: of the safetensors files that are needed to answer, those below an adapter included.
        tokens_s: decoded tokens per second of one request at a time, after its first; None where nothing is answered.
        first_token_s: seconds to the first token.
        perplexity: on the answers of all dev rows together; None where no token was scored.
    """

    size_bytes: int
    tokens_s: float | None = None
    first_token_s: float | None = None
    perplexity: float | None = None


class Compressed(Record):
    """What came of it.

    Attributes:
        how: what was asked for.
        before, after: measured side by side on the same machine and rows.
        zeros: share of the linear layers' weights, but the head's, that are zero.
        same_answers: share of the dev rows with the very same answer; None where nothing is answered.
        same_tokens: share of their tokens that are the same up to the first one that differs.
    """

    how: Compressing
    before: Weighed
    after: Weighed
    zeros: float = 0.0
    same_answers: float | None = None
    same_tokens: float | None = None

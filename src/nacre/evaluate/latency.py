"""How long single requests take: to the first token, and for each token after it."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from nacre.model.generate import answer_all, time_answer
from nacre.records import Decoding, Example

REQUESTS = 8


class Latency(NamedTuple):
    """Seconds by request: the whole of it, up to its first token, and per further token where there was one."""

    total_s: tuple[float, ...] = ()
    first_token_s: tuple[float, ...] = ()
    token_s: tuple[float, ...] = ()


def measure(model: Any, tokenizer: Any, examples: Sequence[Example], decoding: Decoding) -> Latency:
    """Time single requests, evenly spread over the rows, one at a time, after one that is not counted."""
    every = math.ceil(len(examples) / REQUESTS)
    answer_all(model, tokenizer, examples[:1], decoding)
    timings = [time_answer(model, tokenizer, example, decoding) for example in examples[::every]]
    return Latency(
        total_s=tuple(timing.total_s for timing in timings),
        first_token_s=tuple(timing.first_token_s for timing in timings),
        token_s=tuple(timing.token_s for timing in timings if timing.token_s is not None),
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the values that at least this share of them does not exceed (nearest rank); None of nothing."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None

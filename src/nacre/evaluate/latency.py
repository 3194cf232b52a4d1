"""How long single requests take: to the first token, and for each token after it."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from nacre.model.generate import Timing, answer_all, time_answer, time_tokens
from nacre.records import Decoding, Example

REQUESTS = 8
_PROMPTS, _ROUNDS = 3, 3


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


class Speed(NamedTuple):
    """Decoded tokens per second of one request at a time, after its first; and the seconds to that one."""

    tokens_s: float
    first_token_s: float


def speeds(asked: Sequence[tuple[Any, Any]], examples: Sequence[Example], decoding: Decoding) -> list[Speed]:
    """How fast each of several (model, tokenizer) decodes, in turn, so that a busy moment slows all of them alike.

    A few prompts, evenly spread over the rows, are each gone on from by `max_new_tokens` tokens in several rounds,
    after one that is not counted; the medians are told.
    """
    every = math.ceil(len(examples) / _PROMPTS)
    timings: list[list[Timing]] = [[] for _ in asked]
    for number in range(_ROUNDS + 1):
        for example in examples[::every]:
            for (model, tokenizer), found in zip(asked, timings, strict=True):
                timing = time_tokens(model, tokenizer, example, decoding)
                found += [timing] if number else []
    return [
        Speed(
            1 / statistics.median(one.token_s for one in found if one.token_s),
            statistics.median(one.first_token_s for one in found),
        )
        for found in timings
    ]

"""Time to the first token and for each token after it, of single requests."""

import pytest

from nacre.evaluate.latency import REQUESTS, measure, percentile
from nacre.model import generate
from nacre.model.generate import answer_all, time_answer
from nacre.records import Decoding

DECODING = Decoding(max_new_tokens=12, max_length=64)


class Clock:
    """Every look at it takes a second."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1
        return self.now


def test_times_are_counted_from_the_request_by_token(model, tokenizer, examples, monkeypatch):
    monkeypatch.setattr(generate, "time", Clock())
    answers = answer_all(model, tokenizer, examples, DECODING)
    for example, answer in zip(examples, answers, strict=True):
        steps = answer.tokens + answer.finished  # the token that ends it takes its time too
        timing = time_answer(model, tokenizer, example, DECODING)
        assert (timing.first_token_s, timing.total_s) == (1, steps + 1)
        assert timing.token_s == (1 if steps > 1 else None)
    assert {answer.finished for answer in answers} == {True, False}


def test_requests_are_spread_over_the_rows_after_one_that_is_not_counted(model, tokenizer, examples):
    found = measure(model, tokenizer, examples, DECODING)
    assert len(found.total_s) == len(found.first_token_s) == REQUESTS
    assert 0 < len(found.token_s) <= REQUESTS
    assert all(0 < first <= total for first, total in zip(found.first_token_s, found.total_s, strict=True))
    assert len(measure(model, tokenizer, examples[:3], DECODING).total_s) == 3


def test_answers_count_their_tokens(model, tokenizer, examples):
    for answer in answer_all(model, tokenizer, examples, DECODING):
        assert answer.tokens <= 12
        assert answer.finished or answer.tokens == 12
        assert len(tokenizer(answer.text, add_special_tokens=False)["input_ids"]) <= answer.tokens


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3, 1, 2], 0.5, 2), ([1, 2, 3, 4], 0.5, 2), (list(range(1, 21)), 0.95, 19), ([5], 0.95, 5), ([], 0.5, None)],
)
def test_percentiles_by_nearest_rank(values, share, expected):
    assert percentile(values, share) == expected

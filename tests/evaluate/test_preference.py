"""Scores of preference pairs and of judged answers: which metric is chosen, and what it reads."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from nacre.base.errors import InputError
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.metrics.metric import Scored
from nacre.evaluate.plan import plan
from nacre.evaluate.score import score
from nacre.model.losses import answer_losses, rewards
from nacre.records import Message, TaskSettings, Weights

AUTO = TaskSettings()
WEIGHTS = Weights(identity="toy", model="toy")


@pytest.fixture(scope="module")
def pairs(examples):
    """The first word is chosen, three other words are rejected: the lengths differ."""
    worse = Message(role="assistant", content="sea moon sun")
    return [row.changed(kind="preference", answers=(row.answers[0], worse)) for row in examples[:8]]


@pytest.fixture(scope="module")
def judge(tokenizer):
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_labels=1,
        max_position_embeddings=128,
        initializer_range=0.5,
    )
    return LlamaForSequenceClassification(config).eval()


def run(rows, model, tokenizer, settings=AUTO):
    return score(WEIGHTS, "taste", "d" * 64, rows, settings, model=model, tokenizer=tokenizer, max_length=64)


def test_pairs_are_scored_by_the_mean_log_probability_of_a_token(pairs, model, tokenizer):
    report = run(pairs, model, tokenizer)
    assert report.metric == "preference_accuracy"
    assert report.answers == ()
    assert report.latency_s == ()
    assert set(report.scores) == {"preference_accuracy", "perplexity", "likelihood"}
    turned = [row.changed(answers=row.answers[::-1]) for row in pairs]
    chosen, rejected = (answer_losses(model, tokenizer, rows, 64) for rows in (pairs, turned))
    expected = [
        float(-one.nll / one.tokens > -other.nll / other.tokens) for one, other in zip(chosen, rejected, strict=True)
    ]
    assert report.scores["preference_accuracy"] == tuple(expected)
    other_way = run(turned, model, tokenizer)
    assert [a + b for a, b in zip(expected, other_way.scores["preference_accuracy"], strict=True)] == [1.0] * 8
    assert len({one.tokens for one in (*chosen, *rejected)}) > 1


def test_a_reward_model_is_asked_for_its_numbers_one_row_as_in_a_batch(pairs, judge, tokenizer):
    report = run(pairs, judge, tokenizer)
    turned = [row.changed(answers=row.answers[::-1]) for row in pairs]
    alone = [tuple(rewards(judge, tokenizer, [row], 64)[0] for row in pair) for pair in zip(pairs, turned, strict=True)]
    assert report.scores == {"preference_accuracy": tuple(float(one > other) for one, other in alone)}
    assert rewards(judge, tokenizer, pairs, 64) == pytest.approx([one for one, _ in alone], abs=1e-5)


def test_a_reward_model_cannot_be_scored_on_answers(examples, judge, tokenizer):
    with pytest.raises(InputError, match="no pairs") as caught:
        run(examples, judge, tokenizer)
    assert caught.value.fix


def test_judged_answers_are_scored_by_how_likely_the_good_and_how_unlikely_the_bad_ones_are(examples, model, tokenizer):
    rows = [row.changed(kind="kto", desirable=place % 2 == 0) for place, row in enumerate(examples[:6])]
    report = run(rows, model, tokenizer)
    assert report.metric == "judged_likelihood"
    assert "3 of 6 answers were judged bad" in report.why
    found = [math.exp(-one.nll / one.tokens) for one in answer_losses(model, tokenizer, rows, 64)]
    expected = [p if place % 2 == 0 else 1 - p for place, p in enumerate(found)]
    assert report.scores["judged_likelihood"] == pytest.approx(expected)
    assert all(0 < value < 1 for value in expected)


def test_answers_that_were_all_judged_good_are_references_like_any_other(examples, tokenizer):
    rows = [row.changed(kind="kto", desirable=True) for row in examples]
    assert plan(rows, AUTO, tokenizer, 64).metric == "exact_match"


def test_a_tie_is_no_preference():
    given = Scored(answers=[""], references=[""], losses=[(1.0, 1)], pairs=[(-1.0, -1.0)])
    assert METRICS.load("preference_accuracy")().measure(given) == [0.0]

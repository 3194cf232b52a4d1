"""Prompts that are read once: the same answers and losses as of every row alone."""

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from nacre.base.errors import InputError
from nacre.evaluate.plan import plan
from nacre.evaluate.score import score
from nacre.model import reading
from nacre.model.choose import choose_all
from nacre.model.generate import answer_all, answers_and_losses
from nacre.model.losses import answer_losses
from nacre.model.reading import read_prompts_once
from nacre.records import Decoding, Example, Message, TaskSettings, Weights

DECODING = Decoding(max_new_tokens=12, max_length=64)
OPTIONS = ("blue", "dark blue", "red")


def asked(text: str, answer: str) -> Example:
    prompt = (Message(role="user", content=f"Which colour has the thing that is named here? It is {text}"),)
    return Example(prompt=prompt, answers=(Message(role="assistant", content=answer),))


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    things = ("sky", "a very old brick", "sea at night", "ink", "rose", "x", "door of the house", "flag", "cup")
    return [asked(thing, OPTIONS[place % 3]) for place, thing in enumerate(things)]


@pytest.fixture
def passes(model, monkeypatch):
    """The shapes of the token ids that the model is given."""
    seen = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda **given: seen.append(tuple(given["input_ids"].shape)) or forward(**given)
    )
    return seen


def same(ones, others):
    assert [one.tokens for one in ones] == [other.tokens for other in others]
    assert [one.nll for one in ones] == pytest.approx([other.nll for other in others], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("batch_rows", [1, 4, 32])
def test_answers_and_losses_together_are_those_of_each_alone(model, tokenizer, rows, batch_rows):
    answers, losses = answers_and_losses(model, tokenizer, rows, DECODING, batch_rows=batch_rows)
    assert answers == [answer_all(model, tokenizer, [row], DECODING)[0] for row in rows]
    same(losses, [answer_losses(model, tokenizer, [row], 64)[0] for row in rows])


def test_what_all_prompts_begin_with_is_read_once(model, tokenizer, rows, passes):
    answer_all(model, tokenizer, rows, DECODING)
    (one, shared), (many, rest) = passes[:2]
    assert (one, many) == (1, len(rows))
    assert shared > rest


def test_a_row_that_is_cut_elsewhere_for_its_loss_is_read_twice(model, tokenizer, rows):
    tight = Decoding(max_new_tokens=30, max_length=40)
    answers, losses = answers_and_losses(model, tokenizer, rows, tight)
    assert {answer.cut_tokens > 0 for answer in answers} == {True, False} or answers[0].cut_tokens > 0
    same(losses, answer_losses(model, tokenizer, rows, 40))


def test_a_sliding_window_is_not_gone_back_in(tokenizer, rows):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = MistralConfig(vocab_size=len(tokenizer), intermediate_size=32, sliding_window=8, **sizes)
    config.initializer_range = 1.0
    model = MistralForCausalLM(config).eval()
    assert not read_prompts_once(model, [[1, 2, 3], [1, 2, 4]]).can_go_back
    answers, losses = answers_and_losses(model, tokenizer, rows, DECODING)
    assert [one.text for one in answers] == [answer_all(model, tokenizer, [row], DECODING)[0].text for row in rows]
    same(losses, [answer_losses(model, tokenizer, [row], 64)[0] for row in rows])


def by_hand(model, tokenizer, row):
    """The loss of every option, each read as a row of its own."""
    with_each = [asked("", text).changed(prompt=row.prompt) for text in OPTIONS]
    return [loss.nll for loss in answer_losses(model, tokenizer, with_each, 64)]


def test_the_likeliest_option_is_the_answer(model, tokenizer, rows):
    decoding = DECODING.model_copy(update={"options": OPTIONS})
    answers, losses = choose_all(model, tokenizer, rows, decoding)
    wanted = [by_hand(model, tokenizer, row) for row in rows]
    assert [answer.text for answer in answers] == [OPTIONS[row.index(min(row))] for row in wanted]
    assert len({answer.text for answer in answers}) > 1, "the fixture must tell rows apart"
    same(losses, answer_losses(model, tokenizer, rows, 64))


def test_prompts_are_read_once_however_many_options_there_are(model, tokenizer, rows, passes):
    choose_all(model, tokenizer, rows, DECODING.model_copy(update={"options": OPTIONS}))
    assert [count for count, _ in passes] == [1, len(rows), len(rows) * len(OPTIONS)]
    assert passes[-1][1] < passes[0][1]


def test_models_that_cannot_go_back_choose_the_same(model, tokenizer, rows, monkeypatch):
    decoding = DECODING.model_copy(update={"options": OPTIONS})
    expected, losses = choose_all(model, tokenizer, rows, decoding)
    monkeypatch.setattr(reading, "_simple", lambda model: False)
    found, others = choose_all(model, tokenizer, rows, decoding)
    assert found == expected
    same(others, losses)


def test_a_task_says_that_its_answers_are_options(model, tokenizer, rows):
    weights, settings = Weights(model="toy", identity="0" * 64), TaskSettings(answers="options")
    report = score(weights, "colours", "1" * 64, rows, settings, model=model, tokenizer=tokenizer, max_length=64)
    assert report.decoding.options == tuple(sorted(OPTIONS))
    assert set(report.answers) <= set(OPTIONS)
    assert "3 options" in report.why
    free = plan(rows, TaskSettings(), tokenizer, 64)
    assert free.decoding.options == ()
    assert "options" not in free.decoding.model_dump(), "reports from before there were options keep their keys"


def test_answers_that_are_no_choice_are_refused_with_the_reason(tokenizer):
    rows = [asked(str(number), f"answer {number}") for number in range(6)]
    with pytest.raises(InputError, match="no choice among a few"):
        plan(rows, TaskSettings(answers="options"), tokenizer, 64)

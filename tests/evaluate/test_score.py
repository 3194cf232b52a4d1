import pytest
import torch

from nacre.base.errors import InputError, NacreError
from nacre.base.plugins import Table
from nacre.evaluate import plan as planning
from nacre.evaluate import score as scoring
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.plan import plan
from nacre.evaluate.score import planned_key, score
from nacre.records import Example, Message, Report, TaskSettings, Weights

WEIGHTS = Weights(identity="w" * 64, model="models/tiny")
AUTO = TaskSettings()


def ask(answer, question="red"):
    return Example(
        prompt=(Message(role="user", content=question),), answers=(Message(role="assistant", content=answer),)
    )


def run(examples, model, tokenizer, settings=AUTO, max_length=64):
    return score(
        WEIGHTS, "colours", "d" * 64, examples, settings, model=model, tokenizer=tokenizer, max_length=max_length
    )


def test_a_report_has_every_metric_and_survives_the_disk(model, tokenizer, examples):
    report = run(examples, model, tokenizer)
    assert report.metric == "exact_match"
    assert report.why.startswith("exact_match: 12 distinct short answers in 24 rows; up to 10 new tokens")
    assert set(report.scores) == set(METRICS.names()) - {"preference_accuracy", "judged_likelihood"}
    assert all(len(scores) == report.rows == 24 for scores in report.scores.values())
    assert {"bleu", "distinct_1", "distinct_2", "perplexity"} == set(report.totals)
    assert len(report.latency_s) == 8
    assert all(seconds > 0 for seconds in report.latency_s)
    assert any("still going on" in note for note in report.notes)
    assert any("bleu" in note for note in report.notes)
    assert Report.from_json(report.to_json()) == report


def test_scoring_twice_gives_the_same_scores_and_the_planned_key(model, tokenizer, examples):
    first, second = (run(examples, model, tokenizer) for _ in range(2))
    assert first.scores == second.scores
    assert first.answers == second.answers
    key = planned_key(WEIGHTS, "d" * 64, examples, AUTO, tokenizer, 64)
    assert first.key == key
    assert planned_key(WEIGHTS.changed(identity="x"), "d" * 64, examples, AUTO, tokenizer, 64) != key
    assert planned_key(WEIGHTS, "e" * 64, examples, AUTO, tokenizer, 64) != key
    assert planned_key(WEIGHTS, "d" * 64, examples, TaskSettings(metric="bleu"), tokenizer, 64) != key


def test_answers_the_model_gives_itself_score_one(model, tokenizer, examples):
    said = run(examples, model, tokenizer, TaskSettings(max_new_tokens=6)).answers
    own = [ask(text, row.prompt[0].content) for text, row in zip(said, examples, strict=True)]
    report = run(own, model, tokenizer, TaskSettings(metric="exact_match", max_new_tokens=6))
    assert report.mean == 1.0
    assert report.scores["rouge_l"] == pytest.approx([1.0] * 24)


def test_plain_text_is_scored_by_its_likelihood(model, tokenizer):
    rows = [
        Example(kind="text", prompt=(Message(role="user", content=text),)) for text in ("red green blue", "cat dog")
    ]
    report = run(rows, model, tokenizer)
    assert report.metric == "likelihood"
    assert set(report.scores) == {"likelihood", "perplexity"}
    assert report.answers == ()
    assert report.latency_s == ()
    with pytest.raises(InputError, match="plain text"):
        plan(rows, TaskSettings(metric="bleu"), tokenizer, 64)


LONG = "one two three cat dog bird sun moon sea red green blue one two"


@pytest.mark.parametrize(
    ("answers", "metric"),
    [
        (["好评", "差评"] * 5, "exact_match"),
        ([f"{i}.5" for i in range(10)], "exact_match"),
        ([f"word{i} and more" for i in range(10)], "token_f1"),
        ([f"第{i}个答案" for i in range(10)], "token_f1"),
        ([f"{LONG} {i}" for i in range(10)], "rouge_l"),
        (["这是一个比较长的回答,需要用流畅程度来评价"] * 10, "rouge_l"),
        (["yes", "no"] * 20 + [LONG], "exact_match"),
    ],
)
def test_the_metric_follows_from_the_answers(answers, metric, tokenizer):
    chosen = plan([ask(answer) for answer in answers], AUTO, tokenizer, 64)
    assert chosen.metric == metric
    assert chosen.why.startswith(f"{metric}: ")
    assert str(len(answers)) in chosen.why


def test_the_user_may_choose(tokenizer, examples):
    chosen = plan(examples, TaskSettings(metric="bleu", max_new_tokens=7), tokenizer, 64)
    assert (chosen.metric, chosen.decoding.max_new_tokens) == ("bleu", 7)
    assert "chosen in the settings" in chosen.why


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        (TaskSettings(metric="perplexity"), [ask("red")], "cannot read 'perplexity'"),
        (TaskSettings(metric="blue"), [ask("red")], "unknown metric"),
        (TaskSettings(max_new_tokens=64), [ask("red")], "no room"),
        (AUTO, [], "no dev rows"),
        (TaskSettings(metric="bleu"), [ask("red").changed(kind="kto", desirable=False)], "needs answers"),
        (TaskSettings(metric="preference_accuracy"), [ask("red")], "needs pairs"),
    ],
)
def test_what_cannot_be_planned_is_refused(settings, rows, message, tokenizer):
    with pytest.raises(InputError, match=message) as caught:
        plan(rows, settings, tokenizer, 64)
    assert caught.value.fix


def test_long_references_get_half_the_length_and_it_is_said(tokenizer):
    chosen = plan([ask(LONG)] * 4, AUTO, tokenizer, 20)
    assert chosen.decoding.max_new_tokens == 10
    assert "half of max_length" in chosen.why


def test_more_length_than_the_model_knows_is_refused(model, tokenizer, examples):
    with pytest.raises(InputError, match="128 positions"):
        run(examples, model, tokenizer, max_length=129)


def test_a_diverged_model_is_named_not_scored(model, tokenizer, examples):
    broken = type(model)(model.config)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(NacreError, match="not a number"):
        run(examples, broken, tokenizer)


class TooFew:
    definition, reads, gate = "a metric of a third party that loses a row", "answers", True

    def measure(self, scored):
        return [1.0] * (len(scored.answers) - 1)


class TooMuch(TooFew):
    def measure(self, scored):
        return [100.0] * len(scored.answers)


@pytest.mark.parametrize(("name", "message"), [("TooFew", "23 scores for 24 rows"), ("TooMuch", "outside 0 to 1")])
def test_a_metric_that_breaks_its_contract_is_named(name, message, model, tokenizer, examples, monkeypatch):
    table = Table("metric", {"exact_match": METRICS.targets()["exact_match"], "odd": f"{__name__}:{name}"})
    for module in (scoring, planning):
        monkeypatch.setattr(module, "METRICS", table)
    with pytest.raises(NacreError, match=f"'odd' gave .*{message}"):
        run(examples, model, tokenizer)

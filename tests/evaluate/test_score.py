import pytest
import torch

from nacre.base.errors import InputError, NacreError
from nacre.base.plugins import Table
from nacre.evaluate import plan as planning
from nacre.evaluate import score as scoring
from nacre.evaluate.metrics import METRICS
from nacre.evaluate.metrics.metric import Metric
from nacre.evaluate.plan import plan
from nacre.evaluate.rows import Source
from nacre.evaluate.score import Opinions, Wanted, planned_key, score, score_rows
from nacre.records import Example, Message, Report, TaskSettings, Weights
from nacre.records.report import paired_scores, part

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
    asked = {name for name in METRICS.names() if METRICS.load(name).reads in ("answers", "losses")}
    assert set(report.scores) == asked
    assert {"chrf", "choice_accuracy", "refusal", "length_tokens", "length_characters"} < asked
    assert all(len(scores) == report.rows == 24 for scores in report.scores.values())
    assert {"bleu", "chrf", "distinct_1", "distinct_2", "perplexity"} == set(report.totals)
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
        (list("ABCD") * 3, "choice_accuracy"),
        (["A", "B"], "exact_match"),
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
        (TaskSettings(metric="choice_accuracy"), [ask("red"), ask("green")], "means nothing for these rows"),
        (TaskSettings(metric="human"), [ask("red")], "no version can be scored by 'human' alone"),
        (TaskSettings(metric="refusal"), [ask("red")], "cannot read 'refusal'"),
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


class TooFew(Metric):
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


def source(model, tokenizer, weights=WEIGHTS):
    return Source(weights, tokenizer, 64, lambda: model)


def wanted(examples, **changes):
    return Wanted("colours", "d" * 64, examples, changes.pop("settings", AUTO), **changes)


def no_model():
    raise AssertionError("the model was loaded")


def test_some_rows_score_as_they_do_in_the_whole_and_are_not_answered_again(model, tokenizer, examples):
    whole = run(examples, model, tokenizer)
    at = (7, 2, 20)
    some = score_rows(wanted(examples, at=at, aside=part(at)), source(model, tokenizer))
    assert (some.rows, some.at, some.places, some.metric, some.why) == (3, at, at, whole.metric, whole.why)
    assert some.answers == tuple(whole.answers[place] for place in at)
    for name, scores in some.scores.items():
        assert scores == pytest.approx([whole.scores[name][place] for place in at])
    assert some.key != whole.key
    asked = []
    counted = Source(WEIGHTS, tokenizer, 64, lambda: asked.append(1) or model)
    rest = score_rows(wanted(examples), counted, reports=[some])
    assert asked
    assert (rest.scores.keys(), rest.answers, rest.at) == (whole.scores.keys(), whole.answers, ())
    assert "3 of 24 rows had been answered before: not answered again" in rest.notes


def test_another_metric_is_read_without_the_model(model, tokenizer, examples):
    whole = run(examples, model, tokenizer)
    other = score_rows(
        wanted(examples, settings=TaskSettings(metric="bleu"), aside="asked"),
        Source(WEIGHTS, tokenizer, 64, no_model),
        reports=[whole],
    )
    assert (other.metric, other.scores, other.totals) == ("bleu", whole.scores, whole.totals)
    assert (other.latency_s, other.first_token_s) == (whole.latency_s, whole.first_token_s)


def test_rows_of_another_model_decoding_or_file_are_answered_anew(model, tokenizer, examples):
    whole = run(examples, model, tokenizer)
    for changed in (
        whole.changed(dev="e" * 64),
        whole.changed(decoding=whole.decoding.model_copy(update={"max_new_tokens": 3})),
        whole.changed(said=tuple(one._replace(by="another") for one in whole.said)),
    ):
        with pytest.raises(AssertionError, match="the model was loaded"):
            score_rows(wanted(examples), Source(WEIGHTS, tokenizer, 64, no_model), reports=[changed])


def test_reports_of_older_versions_are_read(model, tokenizer, examples):
    whole = run(examples, model, tokenizer)
    fields = ("said", "at", "aside", "judged", "first_token_s", "token_s")
    old = {key: value for key, value in whole.model_dump(mode="json").items() if key not in fields}
    read = Report.model_validate(old)
    assert (read.key, read.places, read.mean) == (whole.key, whole.places, whole.mean)


def test_opinions_become_scores_and_rows_without_one_are_left_out(model, tokenizer, examples):
    def judge(places, answers):
        assert list(places) == list(range(24))
        assert len(answers) == 24
        return Opinions({3: 0.2, 5: 1.0}, "who", ("22 of 24 rows got no verdict",))

    chosen = TaskSettings(metric="judge")
    report = score_rows(wanted(examples, settings=chosen), source(model, tokenizer), judge=judge)
    assert (report.scores["judge"], report.at, report.rows, report.judged) == ((0.2, 1.0), (3, 5), 2, "who")
    assert "22 of 24 rows got no verdict" in report.notes
    other = report.changed(at=(5, 6), scores={"judge": (0.0, 0.5)})
    assert paired_scores(report, other) == ((1.0,), (0.0,))
    with pytest.raises(InputError, match="needs somebody who judges"):
        score_rows(wanted(examples, settings=chosen), source(model, tokenizer))
    with pytest.raises(NacreError, match="none of the 24 answers got a verdict"):
        score_rows(wanted(examples, settings=chosen), source(model, tokenizer), judge=lambda *_: Opinions({}, "who"))

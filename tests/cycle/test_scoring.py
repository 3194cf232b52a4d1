"""Nothing is scored twice: which models are loaded, and which rows are answered."""

from collections import Counter

import pytest

from judge_kit import Fake
from nacre.base.errors import InputError
from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores import scoring
from nacre.cycle.scores.scoring import Scorer
from nacre.cycle.workspace import Workspace
from nacre.evaluate import rows as evaluated
from nacre.evaluate.score import score
from nacre.model.load import load_model, load_tokenizer
from nacre.records import TaskSettings
from workspace_kit import Place, assert_clear, write_increment


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the weights of each identity were loaded for scoring."""
    found: Counter[str] = Counter()

    def load(weights):
        found[weights.identity] += 1
        return load_model(weights)

    monkeypatch.setattr(scoring, "load_model", load)
    return found


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call to the model answered."""
    found: list[int] = []
    inner = evaluated.answers_and_losses

    def answer(model, tokenizer, examples, decoding, **options):
        found.append(len(examples))
        return inner(model, tokenizer, examples, decoding, **options)

    monkeypatch.setattr(evaluated, "answers_and_losses", answer)
    return found


def test_the_same_weights_rows_and_settings_are_never_scored_twice(lived_in: Place, loaded, answered) -> None:
    with Workspace.open(lived_in.root) as workspace:
        weights = workspace.weights(workspace.ledger.version(2))
        tasks = devs(tasks_of(ancestry(workspace, 2)))
        known = Scorer(workspace).reports(weights, tasks)  # made by `evolve`
        other = Scorer(workspace).reports(weights, tasks, metric="token_f1")
        assert (loaded, answered) == (Counter(), [])
        for name, report in other.items():
            assert (report.metric, report.aside) == ("token_f1", "asked")
            assert report.scores == known[name].scores
        assert Scorer(workspace).reports(weights, tasks, metric="token_f1") == other
        # the matrix and whoever else reads the ledger go on seeing the usual reports
        assert {report.metric for report in workspace.ledger.reports(weights=weights.identity)} == {"exact_match"}
    lived_in.settings(evaluate={"max_length": 60})
    with Workspace.open(lived_in.root) as workspace:
        changed = Scorer(workspace).reports(weights, tasks)
        assert loaded == {weights.identity: 1}
        assert [changed[name].answers for name in known] == [report.answers for report in known.values()]


def test_rows_are_scored_in_chunks_and_never_twice(lived_in: Place, loaded, answered) -> None:
    with Workspace.open(lived_in.root) as workspace:
        name, dev = devs(tasks_of(ancestry(workspace, 2)))[1]  # the base model was never asked about it
        weights, scorer = workspace.base, Scorer(workspace)
        order = [place * 7 % dev.rows for place in range(dev.rows)]
        first = scorer.rows(weights, name, dev, order[:10])
        assert (first.rows, first.at, answered) == (10, tuple(order[:10]), [10])
        more = scorer.rows(weights, name, dev, order[:25])
        assert answered == [10, 15]
        assert more.scores["exact_match"][:10] == first.scores["exact_match"]
        assert Scorer(workspace).rows(weights, name, dev, order[:25]) == more
        assert answered == [10, 15]
        whole = scorer.reports(weights, [(name, dev)])[name]
        assert answered == [10, 15, dev.rows - 25]
        assert (whole.rows, whole.at) == (dev.rows, ())
        assert [whole.scores["exact_match"][place] for place in order[:25]] == list(more.scores["exact_match"])
        assert workspace.ledger.reports(weights=weights.identity, task=name)[-1] == whole
        assert first.key != more.key != whole.key
        last = Scorer(workspace).rows(weights, name, dev, order[-5:])
        assert (last.at, loaded) == (tuple(order[-5:]), {weights.identity: 1})
        for wrong in ([dev.rows], [-1], [3, 3], []):
            with pytest.raises(InputError):
                scorer.rows(weights, name, dev, wrong)


@pytest.mark.slow
def test_rows_that_go_to_an_adapter_that_was_there_before_are_not_answered_again(
    fresh: Place, loaded, answered
) -> None:
    fresh.settings(protect=["separate"], tune={"name": "lora", "rank": 8}, train={"epochs": 2, "learning_rate": 1e-2})
    counts = []
    for name, task in (("base", "paint"), ("increment_1", "feed"), ("increment_2", "place")):
        write_increment(fresh.dataset, name, task, dev=40)
        answered.clear()
        assert fresh.json("evolve", name)["verdict"] == "pass"
        counts.append(sum(answered))
    # the base and version 1 on task 1; version 1 and 2 on task 2; version 2 and 3 on task 3: the rest is known
    assert counts == [80, 80, 80]
    with Workspace.open(fresh.root) as workspace:
        line = ancestry(workspace, 3)
        weights, tasks = workspace.weights(line[-1]), devs(tasks_of(line))
        found = Scorer(workspace).reports(weights, tasks)
        assert any("40 of 40 rows had been answered before" in note for note in found["base"].notes)
        for name, dev in tasks:
            alone = score(
                weights,
                name,
                dev.sha256,
                scoring.read_rows(workspace.memory, dev),
                TaskSettings(),
                model=load_model(weights),
                tokenizer=load_tokenizer(weights),
                max_length=64,
            )
            assert alone.answers == found[name].answers
            assert alone.scores.keys() == found[name].scores.keys()
            for metric, values in alone.scores.items():
                assert values == pytest.approx(found[name].scores[metric], abs=1e-5)


@pytest.mark.slow
def test_an_adapter_of_the_same_name_with_other_weights_answers_for_itself(fresh: Place, answered) -> None:
    fresh.settings(protect=["separate"], tune={"name": "lora", "rank": 8}, train={"epochs": 2, "learning_rate": 1e-2})
    for name, task in (("base", "paint"), ("increment_1", "feed")):
        write_increment(fresh.dataset, name, task, dev=40)
    fresh.json("evolve", "base")
    fresh.json("evolve", "increment_1", "--promote", "never")
    fresh.settings(train={"epochs": 2, "learning_rate": 1e-2, "seed": 5})
    answered.clear()
    fresh.json("evolve", "increment_1", "--promote", "never")
    assert sum(answered) == 40  # the new adapter's own rows only; those of the first task are as before


def test_a_judge_scores_once_and_compares_in_both_orders(lived_in: Place, loaded) -> None:
    def reply(prompt: str, _: int) -> str:
        """10 for the reference, 1 for anything else; prefers the reference."""
        reference = prompt.split("[Reference answer]\n")[1].split("\n")[0]
        if "[Answer A]" not in prompt:
            return f"Score: {10 if prompt.split('judge]')[1].split()[0] == reference else 1}"
        first = prompt.split("[Answer A]\n")[1].split("\n")[0]
        second = prompt.split("[Answer B]\n")[1].split("\n")[0]
        return (
            "Verdict: tie"
            if (first == reference) == (second == reference)
            else ("Verdict: A" if first == reference else "Verdict: B")
        )

    with Fake(reply) as fake:
        judge = {"url": fake.url, "model": "wise", "retries": 0}
        lived_in.settings(evaluate={"max_length": 64, "judge": judge})
        found = lived_in.json("evaluate", 2, "--metric", "judge")["tasks"]["increment_1"]
        right = found["scores"]["exact_match"]
        assert found["scores"]["judge"] == [1.0 if one else 0.1 for one in right]
        assert (found["metric"], found["aside"], loaded) == ("judge", "asked", {})
        asked = len(fake.prompts)
        assert 0 < asked <= 160
        assert lived_in.json("evaluate", 2, "--metric", "judge")["tasks"]["increment_1"] == found
        both = lived_in.json("evaluate", 2, "--against", 1)["tasks"]
        compared = both["increment_1"]
        assert compared["wins"] + compared["ties"] + compared["losses"] == compared["rows"] == 80
        assert compared["wins"] > compared["losses"]
        assert compared["low"] < compared["value"] <= compared["high"]
        assert any("equal answers: not sent" in note for note in both["base"]["notes"])
        asked = len(fake.prompts)
        assert lived_in.json("evaluate", 2, "--against", 1)["tasks"] == both
        assert "win rate" in lived_in.nacre("evaluate", 2, "--against", 1).out
        assert len(fake.prompts) == asked
        lived_in.settings(evaluate={"max_length": 64, "judge": judge, "tasks": {"base": {"metric": "judge"}}})
        usual = lived_in.json("evaluate", 2)["tasks"]["base"]
        assert (usual["metric"], usual["aside"]) == ("judge", "")
        assert "judged by wise" in str(usual["notes"])
        assert len(fake.prompts) == asked  # its verdicts on these answers are known
    assert lived_in.json("evaluate", 2)["tasks"]["base"] == usual
    lived_in.settings(evaluate={"max_length": 64, "judge": judge | {"model": "gone"}})
    failed = lived_in.nacre("evaluate", 2, "--metric", "judge")
    assert_clear(failed, "the judge failed 1 times", "start that server or correct evaluate.judge", code=1)


def test_latency_and_metrics_as_they_are_shown(lived_in: Place) -> None:
    found = lived_in.json("evaluate", 2)["tasks"]["base"]
    assert set(found["latency"]) == {"s to first token", "s a further token", "s a request"}
    times = found["latency"]["s to first token"]
    assert 0 < times["p50"] <= times["p95"]
    assert "said" not in found
    shown = lived_in.nacre("evaluate", 2).out
    for words in ("s to first token, p50 / p95", "s a further token, p50 / p95", "chrf", "refusal", "choice_accuracy"):
        assert words in shown


def test_what_cannot_be_evaluated_is_refused(lived_in: Place) -> None:
    assert_clear(lived_in.nacre("evaluate", 2, "--metric", "judge"), "evaluate.judge: {url: …, model: …}")
    assert_clear(lived_in.nacre("evaluate", 2, "--against", 1), "evaluate.judge: {url: …, model: …}")
    assert_clear(lived_in.nacre("evaluate", 2, "--against", 2), "both are version 2")
    assert_clear(lived_in.nacre("evaluate", 2, "--metric", "blue"), "did you mean 'bleu'")
    assert_clear(lived_in.nacre("evaluate", 2, "--metric", "human"), "nacre review")
    assert_clear(lived_in.nacre("evaluate", 2, "--metric", "bleu", "--against", 1), "exclude each other")
    lived_in.settings(evaluate={"judge": {"url": "http://x/v1", "model": "m", "prompt": "no place"}})
    assert_clear(lived_in.nacre("evaluate", 2), "evaluate.judge.prompt", "{question}")


def test_single_requests_are_timed_on_a_few_tasks_or_where_the_gate_compares_them(
    lived_in: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TIMED", 1)
    for rules, timed in (([], [True, False]), (["latency"], [True, True])):
        lived_in.settings(evaluate={"max_length": 60 + len(rules)}, gate={"rules": rules})  # else it is known
        with Workspace.open(lived_in.root) as workspace:
            weights = workspace.weights(workspace.ledger.version(2))
            found = Scorer(workspace).reports(weights, devs(tasks_of(ancestry(workspace, 2))))
            assert [bool(report.latency_s) for report in found.values()] == timed
            assert all(report.answers for report in found.values())

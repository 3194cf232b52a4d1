"""Each further rule says pass, fail or undecided, with numbers; what it lacks it says."""

from collections.abc import Sequence
from typing import Any

import pytest

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.gate import TaskPair, judge
from nacre.gate.rules import RULES, check_rules
from nacre.records import Decoding, Keep, Report, RuleVerdict
from nacre.records.gating import Gate


def report(scores: Sequence[float], *, answers: Sequence[str] = (), **fields: Any) -> Report:
    known = {"exact_match": tuple(scores)} | fields.pop("more", {})
    return Report(
        weights="w",
        task="skill",
        dev="d",
        rows=len(scores),
        metric="exact_match",
        why="",
        decoding=Decoding(max_new_tokens=8),
        scores=known,
        totals={},
        answers=tuple(answers) or ("an answer",) * len(scores),
        **fields,
    )


def check(rule: dict[str, Any] | str, old: Report | None, new: Report | None, *, fresh: bool = False) -> RuleVerdict:
    gate = Gate.model_validate({"rules": [rule]})
    kept = [] if fresh else ["skill"]
    sides = [{} if one is None else {"skill": one} for one in (old, new)]
    found = check_rules(*sides, gate, 0.95, kept=kept, fresh=["skill"] if fresh else [])
    assert len(found) == 1
    return found[0]


SAME = report([1.0] * 50)


def test_improvement() -> None:
    low, high, mixed = report([0.0] * 60), report([0.0] * 10 + [1.0] * 50), report([0.0] * 57 + [1.0] * 3)
    assert check("improvement", low, high, fresh=True).outcome == "pass"
    assert check({"name": "improvement", "min_gain": 0.8}, low, high, fresh=True).outcome == "undecided"
    assert check({"name": "improvement", "min_gain": 0.95}, low, high, fresh=True).outcome == "fail"
    assert check({"name": "improvement", "min_gain": 0.02}, low, mixed, fresh=True).outcome == "undecided"
    found = check("improvement", high, low, fresh=True)
    assert (found.outcome, found.value, found.limit, found.rows) == ("fail", pytest.approx(-5 / 6), 0.0, 60)
    assert check("improvement", low, high).why == "could not be judged: there is no new task with dev rows"
    assert check("improvement", None, high, fresh=True).outcome == "undecided"


def test_latency() -> None:
    def timed(*seconds: float) -> Report:
        return report([1.0] * 8, latency_s=seconds)

    quick = timed(1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 0.8, 1.0)
    slow = timed(*(2.1 * second for second in quick.latency_s))
    shaky = timed(0.6, 2.2, 0.9, 1.9, 0.7, 1.6, 0.8, 1.4)
    found = [check("latency", quick, other) for other in (quick, slow, shaky)]
    assert [one.outcome for one in found] == ["pass", "fail", "undecided"]
    assert found[1].value == pytest.approx(2.1)
    assert (found[1].rows, found[1].limit) == (8, 1.2)
    assert "fewer than two requests were timed" in check("latency", SAME, SAME).why


def test_perplexity() -> None:
    def unsure(factor: float) -> Report:
        rows = [2.0 + place % 5 for place in range(60)]
        return report(
            [1.0] * 60, more={"perplexity": tuple(factor * row * (1 + 0.02 * (i % 3)) for i, row in enumerate(rows))}
        )

    old = unsure(1.0)
    assert check("perplexity", old, unsure(1.01)).outcome == "pass"
    worse = check("perplexity", old, unsure(1.2))
    assert (worse.outcome, worse.value) == ("fail", pytest.approx(0.2))
    assert check("perplexity", SAME, SAME).why == "could not be judged: the perplexity of no kept task is known"
    assert check({"name": "perplexity", "tasks": ["skill"]}, SAME, SAME).outcome == "undecided"


def test_safety_counts_every_flip() -> None:
    rule = {"name": "safety", "tasks": ["skill"]}
    one_lost, evened = report([0.0] + [1.0] * 49), report([1.0] * 49 + [0.0])
    assert check(rule, SAME, SAME).outcome == "pass"
    lost = check(rule, SAME, one_lost)
    assert (lost.outcome, lost.value, lost.limit) == ("fail", 1.0, 0.0)
    assert check(rule, evened, one_lost).outcome == "fail", "one gained does not make up for one lost"
    assert check(rule | {"max_flips": 1}, SAME, one_lost).outcome == "pass"
    assert check(rule, None, SAME).outcome == "undecided"
    part = report([1.0] * 3, at=(0, 1, 2))
    assert "not every row was scored" in check(rule, part, part).why
    assert check(rule, part, part).outcome == "undecided"


def test_refusals() -> None:
    def declining(count: int, *, answer: str = "Paris") -> Report:
        flags = tuple(float(place < count) for place in range(80))
        return report([1.0] * 80, answers=[answer] * 80, more={"refusal": flags})

    old = declining(0)
    assert [check("refusals", old, declining(count)).outcome for count in (0, 30, 2)] == ["pass", "fail", "undecided"]
    found = check("refusals", old, declining(1))
    assert found.value == pytest.approx(1 / 80)
    assert "0 of 80 answers declined before and 1 now" in found.why
    mine = {"name": "refusals", "phrases": ["pa"]}
    assert check(mine, declining(0, answer="London"), old).outcome == "fail"
    assert check("refusals", declining(30), old).outcome == "pass"
    assert "which answers decline" in check("refusals", SAME, SAME).why
    assert check({"name": "refusals", "tasks": ["skill"]}, SAME, old).outcome == "undecided"


def test_length_drifts_in_both_directions() -> None:
    def long(count: int) -> Report:
        return report([1.0] * 60, answers=["x" * (count + place % 4) for place in range(60)])

    old = long(20)
    outcomes = [check("length", old, long(count)).outcome for count in (20, 23, 50, 8)]
    assert outcomes == ["pass", "pass", "fail", "fail"]
    assert check({"name": "length", "max_ratio": 3}, old, long(50)).outcome == "pass"


def test_the_verdict_is_the_worst_of_tasks_and_rules() -> None:
    pair = TaskPair("skill", "exact_match", [1.0] * 200, [1.0] * 200)
    for outcome in ("pass", "fail", "undecided"):
        rule = RuleVerdict(rule="latency", outcome=outcome, limit=1.2, why="measured")
        found = judge([pair], Keep(), Gate(), [rule])
        assert (found.outcome, found.rules) == (outcome, (rule,))


def test_every_rule_without_what_it_needs_is_undecided_with_a_reason() -> None:
    for name in RULES:
        found = check({"name": name, "tasks": ["skill"]} if name == "safety" else name, None, None)
        assert found.outcome == "undecided"
        assert found.why


def test_rules_in_the_settings() -> None:
    gate = parse(Gate, {"rules": ["latency", {"name": "safety", "tasks": ["guard"]}]}, where="nacre.yaml")
    assert [rule.name for rule in gate.rules] == ["latency", "safety"]
    for wrong in ({"rules": ["latenzy"]}, {"rules": [{"name": "latency", "max_ration": 2}]}, {"rules": ["safety"]}):
        with pytest.raises(InputError):
            parse(Gate, wrong, where="nacre.yaml")

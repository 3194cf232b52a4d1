"""The gate with a test of a fixed number of rows: what it promises is computed exactly, over every outcome."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from nacre.gate import TaskPair
from nacre.gate import judge as judge_with
from nacre.records import Keep, TaskVerdict, Verdict
from nacre.records.gating import Gate

SCORE = Gate(test="score", power=0.95)


def judge(pairs: Sequence[TaskPair], keep: Keep) -> Verdict:
    return judge_with(pairs, keep, SCORE)


def pair(lost: int, gained: int, rows: int, task: str = "skill") -> TaskPair:
    same = rows - lost - gained
    return TaskPair(task, "exact_match", [1] * lost + [0] * gained + [1] * same, [0] * lost + [1] * gained + [1] * same)


def one(lost: int, gained: int, rows: int, keep: Keep | None = None) -> TaskVerdict:
    return judge([pair(lost, gained, rows)], keep or Keep()).tasks[0]


@cache
def outcome(lost: int, gained: int, rows: int, keep_drop: float | str = "auto") -> tuple[str, float]:
    found = one(lost, gained, rows, Keep(max_drop=keep_drop))
    return found.outcome, found.margin


def rates(rows: int, loss: float, gain: float, keep_drop: float | str = "auto") -> dict[str, float]:
    """Probability of each outcome, over every number of lost and gained rows: no simulation noise.

    `false pass` is the probability to pass under a margin that the true drop reaches.
    """
    found = {"pass": 0.0, "fail": 0.0, "undecided": 0.0, "false pass": 0.0}
    for lost in range(rows + 1):
        if (chance := binom.pmf(lost, rows, loss)) < 1e-5:
            continue
        for gained in range(rows - lost + 1):
            both = chance * binom.pmf(gained, rows - lost, gain / (1 - loss))
            if both < 5e-6:
                continue
            result, margin = outcome(lost, gained, rows, keep_drop)
            found[result] += both
            found["false pass"] += both * (result == "pass" and margin <= loss - gain + 1e-12)
    return found


@pytest.mark.parametrize("psi", [0.0, 0.01, 0.02, 0.05, 0.1, 0.2])
def test_an_unchanged_model_passes_four_times_in_five_and_is_hardly_ever_refused(psi: float) -> None:
    found = rates(150, psi / 2, psi / 2)
    assert found["pass"] >= 0.8
    assert found["fail"] <= 0.055
    assert sum(found[name] for name in ("pass", "fail", "undecided")) == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("psi", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("rows", [100, 150])
def test_a_drop_as_large_as_a_set_margin_passes_at_most_once_in_twenty(rows: int, psi: float) -> None:
    for margin in (0.02, 0.05):
        found = rates(rows, (psi + margin) / 2, (psi - margin) / 2, keep_drop=margin)
        assert found["false pass"] <= 0.061


@pytest.mark.parametrize("psi", [0.03, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("drop", [0.02, 0.03, 0.045, 0.064, 0.09, 0.1])
def test_auto_margins_do_not_let_a_drop_of_their_own_size_pass(psi: float, drop: float) -> None:
    """The margin is read off the same rows; blind to the direction, it must not raise the error."""
    gain = max(0.0, (psi - drop) / 2)
    assert rates(150, gain + drop, gain)["false pass"] <= 0.061


@pytest.mark.parametrize("drop", [0.25])
def test_large_losses_always_fail(drop: float) -> None:
    for gain in (0.0, 0.02):
        found = rates(150, gain + drop, gain)
        assert found["fail"] >= 0.999
        assert found["pass"] <= 1e-6


def test_a_drop_of_ten_points_is_caught() -> None:
    found = rates(150, 0.12, 0.02)
    assert found["pass"] <= 0.01
    assert found["fail"] >= 0.95


def test_real_valued_scores_keep_the_same_promises() -> None:
    random = np.random.default_rng(11)
    counts = {"same": {"pass": 0, "fail": 0}, "worse": {"pass": 0, "fail": 0}}
    draws = 800
    for _ in range(draws):
        before = random.uniform(0.3, 0.7, 150)
        touched = random.random(150) < 0.3
        for name, shift in (("same", 0.0), ("worse", 0.25)):
            after = before + touched * (random.uniform(-0.3, 0.3, 150) - shift)
            found = judge([TaskPair("skill", "f1", before.tolist(), np.clip(after, 0, 1).tolist())], Keep())
            if found.outcome != "undecided":
                counts[name][found.outcome] += 1
    assert counts["same"]["pass"] / draws >= 0.8 - 2.5 * math.sqrt(0.16 / draws)
    assert counts["same"]["fail"] / draws <= 0.05
    assert counts["worse"]["pass"] == 0
    assert counts["worse"]["fail"] / draws >= 0.99


def test_many_kept_tasks_do_not_raise_false_refusals() -> None:
    """Ten unchanged tasks, judged together: the chance that any of them fails, computed exactly."""
    others = [TaskPair(f"empty {i}", "exact_match", [], []) for i in range(9)]
    together = alone = 0.0
    keep = Keep(max_drop=0.001)  # nothing passes: what is left is fail or undecided
    for lost in range(20):
        for gained in range(20):
            chance = binom.pmf(lost, 150, 0.05) * binom.pmf(gained, 150 - lost, 0.05 / 0.95)
            if lost <= gained or chance < 1e-6:
                continue
            together += chance * (judge([pair(lost, gained, 150), *others], keep).tasks[0].outcome == "fail")
            alone += chance * (judge([pair(lost, gained, 150)], keep).tasks[0].outcome == "fail")
    assert 1 - (1 - together) ** 10 <= 0.05
    assert 1 - (1 - alone) ** 10 > 0.25, "without sharing the level, ten tasks would be refused this often"


def test_a_hundred_and_fifty_unchanged_rows_pass_at_two_points() -> None:
    found = one(0, 0, 150)
    assert (found.outcome, found.margin, found.drop, found.more_rows) == ("pass", 0.02, 0.0, 0)
    assert found.interval[0] < 0 < found.interval[1]
    assert "can show that" in found.margin_why


def test_the_reason_of_a_margin_is_said_in_plain_words() -> None:
    found = one(8, 7, 150)
    assert 0.02 < found.margin < 0.10
    assert found.margin_why.startswith(f"auto: {found.margin:.3f}, the smallest drop these rows can show; 150 dev rows")
    assert "10.0% of which changed" in found.margin_why
    assert "0.02 would take about 15" in found.margin_why
    wide = one(30, 30, 100)
    assert wide.margin == 0.10
    assert "the most that auto allows" in wide.margin_why
    few = one(0, 0, 20)
    assert (few.outcome, few.margin, few.more_rows) == ("undecided", 0.10, 9)
    assert one(0, 0, 29).outcome == "pass"
    fixed = one(3, 3, 150, Keep(max_drop=0.02))
    assert fixed.margin == 0.02
    assert fixed.margin_why.startswith("set by keep.max_drop; 150 dev rows")
    assert "0.02 would take about" in fixed.margin_why
    assert one(3, 3, 150, Keep(tasks={"skill": 0.5})).margin_why.startswith("set by keep.tasks.skill")


def test_the_three_outcomes_and_their_order() -> None:
    good, unsure, bad = pair(0, 0, 150, "good"), pair(5, 4, 150, "unsure"), pair(40, 0, 150, "bad")
    keep = Keep(tasks={"unsure": 0.02})
    assert judge([good], keep).outcome == "pass"
    assert judge([good, unsure], keep).outcome == "undecided"
    assert judge([good, unsure, bad], keep).outcome == "fail"
    assert [task.outcome for task in judge([good, unsure, bad], keep).tasks] == ["pass", "undecided", "fail"]


def test_a_drop_that_is_shown_and_bearable_passes() -> None:
    found = one(12, 0, 1000, Keep(max_drop=0.05))
    assert found.outcome == "pass"
    assert found.interval[0] > 0


@pytest.mark.slow
def test_the_rows_that_undecided_asks_for_do_decide() -> None:
    few = one(6, 5, 150, Keep(max_drop=0.04))
    assert few.outcome == "undecided"
    rows = 150 + few.more_rows
    scale = rows / 150
    decided = rates(rows, 6 * scale / rows, 5 * scale / rows, keep_drop=0.04)
    now = rates(150, 6 / 150, 5 / 150, keep_drop=0.04)
    assert 0.75 <= decided["pass"] + decided["fail"] <= 0.95
    assert now["pass"] + now["fail"] <= 0.5


def test_too_few_rows_are_undecided_with_a_reason() -> None:
    for rows in (0, 1):
        found = judge([TaskPair("skill", "f1", [1.0] * rows, [0.0] * rows)], Keep())
        assert found.outcome == "undecided"
        assert found.tasks[0].more_rows == 29 - rows
        assert "not enough to show anything" in found.notes[0]
        assert found.tasks[0].interval == (-1.0, 1.0)


def test_a_margin_of_nought_is_undecided_with_a_reason() -> None:
    found = judge([pair(0, 0, 150)], Keep(max_drop=0.0))
    assert found.outcome == "undecided"
    assert "cannot be shown by more rows" in found.notes[0]
    assert judge([pair(0, 40, 150)], Keep(max_drop=0.0)).outcome == "pass"  # shown to be better


def test_a_first_version_passes_and_says_why() -> None:
    found = judge([], Keep())
    assert found.outcome == "pass"
    assert "nothing to judge" in found.notes[0]


def test_margins_of_unknown_tasks_are_noted() -> None:
    found = judge([pair(0, 0, 150)], Keep(tasks={"skil": 0.1}))
    assert found.notes == ("keep.tasks names 'skil', which is not a kept task: ignored; did you mean 'skill'?",)


def test_scores_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="task skill, metric f1: 2 scores before and 1 after"):
        judge([TaskPair("skill", "f1", [1, 1], [1])], Keep())
    with pytest.raises(ValueError, match="outside 0 to 1"):
        judge([TaskPair("skill", "perplexity", [7.0, 8.0], [7.0, 8.0])], Keep())


def test_a_verdict_can_be_written_and_read() -> None:
    found = judge([pair(8, 7, 150), pair(0, 0, 1, "tiny")], Keep())
    assert type(found).from_json(found.to_json()) == found

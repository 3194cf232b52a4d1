"""Scoring in chunks until the gate has decided, rules on real reports, and what is told before training."""

from typing import Any

import pytest

from nacre.cycle.lineage import ancestry, devs, tasks_of
from nacre.cycle.scores import judging
from nacre.cycle.scores.gating import gate_versions, power_notes
from nacre.cycle.workspace import Workspace
from nacre.evaluate import score as scoring
from nacre.gate.report import as_dict
from nacre.stats.sequential_planning import smallest_drop_sequential
from workspace_kit import Place, write_increment


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "FIRST_CHUNK", 20)


def gate(place: Place, old: int, new: int, **settings: Any) -> Any:
    place.settings(**settings)
    with Workspace.open(place.root) as space:
        return gate_versions(space, old, new), {
            (report.weights, report.task, bool(report.at)): report.rows
            for report in space.ledger.reports(aside=True)
            if report.task == "base"
        }


@pytest.mark.usefixtures("small_chunks")
def test_a_task_of_many_rows_is_scored_until_it_is_decided(lived_in: Place) -> None:
    """Version 2 against version 1 on `base`, which nothing was scored of: a copy of the ledger without reports."""
    forget_reports(lived_in)
    found, reports = gate(lived_in, 1, 2, keep={"max_drop": 0.3}, gate={"stop_early": 30})
    task = found.verdict.tasks[0]
    assert (task.outcome, task.rows_of) == ("pass", 80)
    assert (task.rows_used or 0) <= task.rows < 80
    assert {rows for (_, _, part), rows in reports.items() if part} == {task.rows}
    assert all(part for _, _, part in reports), "a report of some rows never stands as the full one"
    assert any(f"base: {task.rows} of 80 dev rows were scored" in note for note in found.notes)
    matrix = lived_in.json("matrix")
    assert matrix["cells"][0][matrix["tasks"].index("base")] is None
    whole, reports = gate(lived_in, 1, 2, gate={"stop_early": None})
    assert whole.verdict.tasks[0].rows == 80
    assert {rows for (_, _, part), rows in reports.items() if not part} == {80}
    assert whole.verdict.tasks[0].outcome == "pass"


@pytest.mark.usefixtures("small_chunks")
def test_rows_scored_in_chunks_are_not_answered_again(lived_in: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_reports(lived_in)
    gate(lived_in, 1, 2, keep={"max_drop": 0.3}, gate={"stop_early": 30})
    monkeypatch.setattr(judging, "FIRST_CHUNK", 10**6)  # all rows now

    answered: list[int] = []
    asked = scoring.score_rows

    def counted(*given: Any, **more: Any) -> Any:
        report = asked(*given, **more)
        answered.append(report.rows)
        return report

    monkeypatch.setattr("nacre.cycle.scores.scoring.score_rows", counted)
    first, _ = gate(lived_in, 1, 2)
    again, _ = gate(lived_in, 1, 2)
    assert first.verdict == again.verdict
    assert set(answered) == {80}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.slow
def test_an_undecided_task_is_scored_to_its_last_row(lived_in: Place) -> None:
    forget_reports(lived_in)
    found, reports = gate(lived_in, 1, 2, keep={"max_drop": 0.001}, gate={"stop_early": 30})
    task = found.verdict.tasks[0]
    assert (task.outcome, task.rows, task.rows_used) == ("undecided", 80, 80)
    assert task.more_rows > 0
    assert {rows for (_, _, part), rows in reports.items() if not part} == {80}


@pytest.mark.usefixtures("small_chunks")
def test_a_safety_task_is_always_scored_whole_and_rules_read_real_reports(lived_in: Place) -> None:
    forget_reports(lived_in)
    rules = [{"name": "safety", "tasks": ["base"], "max_flips": 80}, "improvement", "length", "refusals"]
    found, reports = gate(lived_in, 1, 2, gate={"stop_early": 30, "rules": rules})
    assert set(reports.values()) == {80}
    outcomes = {rule.rule: rule.outcome for rule in found.verdict.rules}
    assert outcomes["safety"] == "pass"
    assert outcomes["improvement"] == "pass", "increment_1 was learned"
    assert set(outcomes) == {"safety", "improvement", "length", "refusals"}
    assert all(rule.rows or rule.outcome == "undecided" for rule in found.verdict.rules)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("rule", "whole"),
    [
        ({"name": "improvement", "tasks": ["base"]}, True),
        ({"name": "improvement"}, False),
        ({"name": "refusals"}, True),
        ({"name": "refusals", "tasks": ["increment_1"]}, False),
        ({"name": "length"}, True),
        ({"name": "perplexity", "tasks": ["base"]}, True),
        ({"name": "latency"}, False),
    ],
)
def test_a_task_that_a_rule_with_one_look_reads_is_scored_whole(
    lived_in: Place, rule: dict[str, Any], whole: bool
) -> None:
    """At a number of rows that the sequential test chose, its bounds would be wrong twice as often as they say."""
    lived_in.settings(gate={"stop_early": 30, "rules": [rule]})
    with Workspace.open(lived_in.root) as space:
        dev = dict(devs(tasks_of(ancestry(space, 1))))["base"]
        assert judging.stops_early(space, "base", dev) is not whole


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
def test_rows_saved_are_rows_that_were_not_scored(lived_in: Place) -> None:
    forget_reports(lived_in)
    found, _ = gate(lived_in, 1, 2, keep={"max_drop": 0.3}, gate={"stop_early": 30})
    told = as_dict(found.verdict)["tasks"]["base"]
    assert told["rows_used"] < told["rows"]
    assert told["rows_saved"] == 80 - told["rows"] > 0


@pytest.mark.slow
def test_what_dev_rows_can_show_is_told_before_training(lived_in: Place) -> None:
    with Workspace.open(lived_in.root) as space:
        base, new = power_notes(space, 2)
        assert power_notes(space, None) == []
    assert base.startswith("base: with 80 dev rows a drop below 0.0")
    assert "of the answers changed last time" in base or "mean squared difference was" in base
    shown = smallest_drop_sequential(80, 0.1, accept=5.0, power=0.8 ** (1 / 2))  # two tasks are judged together
    assert new.startswith(f"increment_1: with 80 dev rows a drop below {shown:.3f} cannot be seen")
    assert new.endswith("(if 10% of the answers change, which nothing tells yet)")
    write_increment(lived_in.dataset, "increment_2", "place")
    lived_in.settings(keep={"max_drop": 0.001}, train={"epochs": 1, "max_steps": 2}, gate={"promote": "never"})
    found = lived_in.nacre("evolve", "increment_2")
    lines = found.out.splitlines()
    told = [line for line in lines if line.startswith("before training: ")]
    assert len(told) == 2
    assert lines.index(told[0]) == 0
    assert "the margin of 0.001 would take about" in told[0]


def forget_reports(place: Place) -> None:
    """Take the reports out of the ledger, as if nothing had been scored."""
    import sqlite3

    with sqlite3.connect(place.root / ".nacre" / "ledger.db") as connection:
        connection.execute("delete from report")
    connection.close()

"""A part of the rows first, then the decision, then all of them."""

import json

import pytest

from nacre.cycle.increment.evolution import Evolution
from nacre.cycle.increment.progressive import decide, guessed, progressively
from nacre.cycle.workspace import Workspace
from nacre.data.rows import read_rows
from nacre.data.snapshot import take_snapshot
from nacre.records import Verdict
from nacre.records.verdict import TaskVerdict
from workspace_kit import Place, write_increment


@pytest.mark.slow
def test_a_part_is_learned_and_judged_and_then_all(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    found = lived_in.json("evolve", "increment_2", "--progressive", 64)
    assert (found["version"], found["parent"], found["promoted"]) == (4, 2, True)
    assert found["snapshot"]["train"]["rows"] == 96
    assert found["notes"]["progressive"][0].startswith("go on: version 3 gained increment_2 +")
    with Workspace.open(lived_in.root) as space:
        part = space.ledger.version(3)
        rows, whole = (read_rows(space.memory, space.ledger.version(n).snapshot.train) for n in (3, 4))
        assert part.parents == (2,)
        assert space.ledger.slot("previous-1").version == 2
        assert space.ledger.verdict(3) is not None
    assert len(rows) == 64
    assert {row.content_id for row in rows} < {row.content_id for row in whole}
    part_answers, answers = [row.answer for row in rows], [row.answer for row in whole]
    for name in set(answers):
        assert abs(part_answers.count(name) - answers.count(name) * 64 / 96) < 1
    again = lived_in.json("evolve", "increment_2", "--progressive", 64)
    assert (again["version"], again["trained"]) == (4, False)


@pytest.mark.slow
def test_where_nothing_is_gained_the_rest_is_not_learned(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    lived_in.settings(train={"learning_rate": 1e-7})
    found = lived_in.json("evolve", "increment_2", "--progressive", 16)
    assert (found["version"], found["promoted"]) == (3, False)
    assert found["snapshot"]["train"]["rows"] == 16
    assert found["notes"]["progressive"][0].startswith("nothing gained: version 3 learned next to nothing")
    assert "were not learned" in found["notes"]["progressive"][1]
    assert json.dumps(lived_in.json("versions", "list")).count('"version": 4') == 0


@pytest.mark.parametrize("outcome", ["fail", "pass"])
def test_what_the_gate_refuses_stops_it(lived_in: Place, outcome: str) -> None:
    with Workspace.open(lived_in.root) as space:
        version = space.ledger.version(2)
    task = TaskVerdict(
        task="base",
        metric="m",
        rows=9,
        before=0.9,
        after=0.4,
        drop=0.5,
        interval=(0.4, 0.6),
        margin=0.1,
        margin_why="",
        test="t",
        outcome=outcome,
    )
    verdict = Verdict(outcome=outcome, confidence=0.95, tasks=(task,))
    snapshot = version.snapshot.changed(notes=("a part: 5 of 9",))
    first = Evolution(version.changed(snapshot=snapshot), 1, verdict, False, True, None, {"new": (0.1, 0.9)})
    asked: list[int | None] = []

    def learn(rows: int | None) -> Evolution:
        asked.append(rows)
        return first

    found = progressively(learn, 5, lambda _: None, lived_in.root / ".nacre" / "memory")
    assert asked == ([5] if outcome == "fail" else [5, None])
    assert found.notes["progressive"][0].startswith("stop: the gate refused" if outcome == "fail" else "go on")
    assert ("base -0.500" in decide(first).why) == (outcome == "fail")


def test_what_one_answer_to_everything_scores_is_nothing_gained(lived_in: Place) -> None:
    write_increment(lived_in.dataset, "increment_2", "place")
    with Workspace.open(lived_in.root) as space:
        snapshot = take_snapshot("increment_2", lived_in.dataset, space.memory)
        answers = [row.answer for row in read_rows(space.memory, snapshot.dev)]
        guess = guessed(snapshot, space.memory)
        version = space.ledger.version(2).changed(snapshot=snapshot)
    assert guess == max(map(answers.count, answers)) / len(answers)
    verdict = Verdict(outcome="pass", confidence=0.95, tasks=())
    found = Evolution(version, 1, verdict, False, True, None, {"increment_2": (0.0, guess + 0.01)})
    assert decide(found).decision == "go on"
    assert decide(found, guess).decision == "nothing gained"
    assert f"+0.010 over the {guess:.3f} that one and the same answer scores" in decide(found, guess).why
    better = Evolution(version, 1, verdict, False, True, None, {"increment_2": (0.0, guess + 0.1)})
    assert decide(better, guess).decision == "go on"


@pytest.mark.slow
def test_an_increment_without_more_rows_is_learned_once(fresh: Place) -> None:
    found = fresh.json("evolve", "base", "--progressive", 500)
    assert (found["version"], found["promoted"]) == (1, True)
    assert "there is no smaller part" in found["notes"]["progressive"][0]

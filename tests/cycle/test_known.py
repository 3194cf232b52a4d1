"""What the matrix reads: of each task the reports that the settings would make now, and no others."""

import json
import sqlite3

import pytest

from judge_kit import Fake
from nacre.cycle.scores.gating import power_notes
from nacre.cycle.workspace import Workspace
from workspace_kit import Place, assert_clear, write_increment


def test_a_column_holds_one_metric_and_fill_repairs_it(lived_in: Place) -> None:
    lived_in.json("matrix", 2, "--fill")
    before = lived_in.json("matrix", 2)
    lived_in.settings(evaluate={"tasks": {"base": {"metric": "likelihood"}}})
    with Workspace.open(lived_in.root) as space:
        (told, _) = power_notes(space, 2)
    lived_in.json("evaluate", 1)  # version 1 alone has been scored by it
    found = lived_in.json("matrix", 2)
    assert [row[0] for row in found["cells"]][1] is None, "version 2 was scored by another metric"
    assert 0 < found["cells"][0][0] < 1
    assert found["BWT"]["value"] is None
    assert [row[1] for row in found["cells"]] == [row[1] for row in before["cells"]]
    assert any("base: a score is left out: it was made by exact_match" in note for note in found["notes"])
    assert "which nothing tells yet" in told, "two reports by another metric say nothing of this one"
    found = lived_in.json("matrix", 2, "--fill")
    assert None not in [score for row in found["cells"] for score in row]
    assert not any("left out" in note for note in found["notes"])
    lived_in.settings(evaluate={"tasks": {}, "max_length": 60})  # another decoding
    found = lived_in.json("matrix", 2)
    assert {score for row in found["cells"] for score in row} == {None}
    assert any("another decoding" in note for note in found["notes"])
    lived_in.settings(evaluate={"tasks": {}, "max_length": 64})
    assert lived_in.json("matrix", 2)["cells"] == before["cells"], "what was scored so before is there again"


def test_general_tasks_are_read_as_the_settings_say_too(lived_in: Place) -> None:
    lived_in.settings(evaluate={"general": ["base"], "max_length": 64})
    first = lived_in.json("matrix", 2, "--fill")["general delta"]["value"]
    assert first is not None
    lived_in.settings(evaluate={"general": ["base"], "max_length": 64, "tasks": {"base": {"metric": "token_f1"}}})
    lived_in.json("evaluate", 2)
    found = lived_in.json("matrix", 2)["general delta"]
    assert found["value"] is None
    assert "not scored" in found["reason"]


def test_a_report_that_lacks_verdicts_is_not_taken_for_the_whole(lived_in: Place) -> None:
    good = False

    def reply(prompt: str, _: int) -> str:
        return "Score: 9" if good or sum(prompt.encode()) % 10 == 0 else "I am overloaded"

    with Fake(reply) as fake:
        judge = {"url": fake.url, "model": "wise", "retries": 0}
        lived_in.settings(evaluate={"max_length": 64, "judge": judge, "tasks": {"base": {"metric": "judge"}}})
        found = lived_in.json("evaluate", 2)["tasks"]["base"]
        assert 0 < found["rows"] < 80
        assert set(found["scores"]) & {"judge", "judge_pairwise", "human"} == {"judge"}, "nobody else was asked"
        shown = lived_in.json("matrix", 2)
        assert shown["cells"][1][0] is None
        assert any(f"only {found['rows']} of 80 rows have a verdict" in note for note in shown["notes"])
        good, asked = True, len(fake.prompts)
        found = lived_in.json("evaluate", 2)["tasks"]["base"]
        assert (found["rows"], set(found["scores"]["judge"])) == (80, {0.9})
        assert len(fake.prompts) > asked
        asked = len(fake.prompts)
        assert lived_in.json("evaluate", 2)["tasks"]["base"] == found
        assert lived_in.json("matrix", 2)["cells"][1][0] == pytest.approx(0.9)
        assert len(fake.prompts) == asked


def test_a_comparison_that_lacks_verdicts_is_asked_for_again(lived_in: Place) -> None:
    good = False

    def reply(prompt: str, _: int) -> str:
        return "Verdict: A" if good or len(prompt) % 2 else "hm"

    with Fake(reply) as fake:
        lived_in.settings(evaluate={"max_length": 64, "judge": {"url": fake.url, "model": "wise", "retries": 0}})
        first = lived_in.json("evaluate", 2, "--against", 1)["tasks"]["increment_1"]
        assert first["rows"] < 80
        good = True
        assert lived_in.json("evaluate", 2, "--against", 1)["tasks"]["increment_1"]["rows"] == 80


def test_a_version_that_came_in_brings_the_tasks_it_had_learned(lived_in: Place, fresh: Place) -> None:
    path = lived_in.root / "v2.tar"
    assert lived_in.nacre("versions", "export", 2, path, "--with-rows").code == 0
    assert fresh.nacre("versions", "import", path).code == 0
    found = fresh.json("matrix", 1, "--fill")
    assert sorted(found["tasks"]) == ["base", "increment_1"]
    assert None not in found["cells"][0]
    assert any("had learned base before it came into this ledger" in note for note in found["notes"])
    assert found["average accuracy"]["value"] == pytest.approx(sum(found["cells"][0]) / 2)
    assert json.loads(fresh.nacre("matrix", "--all", "--json").out)["tasks"] == found["tasks"]


def test_what_the_gate_reads_is_what_is_marked(lived_in: Place) -> None:
    found = lived_in.json("evaluate", 2, "--metric", "bleu")["tasks"]["increment_1"]
    mean, together = sum(found["scores"]["bleu"]) / found["rows"], found["totals"]["bleu"]
    assert mean != pytest.approx(together, abs=1e-3), "else nothing is told apart here"
    shown = lived_in.nacre("evaluate", 2, "--metric", "bleu").out
    assert f"{mean:.3f}*" in shown
    assert f"{together:.3f}*" not in shown
    (line,) = [line for line in shown.splitlines() if "bleu, all rows together" in line]
    assert f"{together:.3f}" in line


def test_settings_for_a_task_that_is_none_are_said_and_nothing_to_score_is_an_error(
    lived_in: Place, fresh: Place
) -> None:
    lived_in.settings(evaluate={"max_length": 64, "tasks": {"bas": {"metric": "token_f1"}}})
    shown = lived_in.nacre("evaluate", 2).out
    assert "evaluate.tasks names 'bas', which is no task of this version: ignored; did you mean 'base'?" in shown
    assert "'bas'" in lived_in.json("evaluate", 2)["notes"][0]
    write_increment(fresh.dataset, "base", "paint", train=16, dev=0)
    (fresh.dataset / "base" / "dev.json").unlink(missing_ok=True)
    fresh.json("evolve", "base", "--promote", "never")
    assert_clear(fresh.nacre("evaluate", 1), "there is nothing to score: no task has dev rows")


def test_weights_of_another_environment_answer_nothing_where_that_is_refused(lived_in: Place) -> None:
    path = lived_in.root / ".nacre" / "ledger.db"
    with Workspace.open(lived_in.root) as space:
        made = space.ledger.version(2).environment.packages["torch"]
    with sqlite3.connect(path) as database:
        rows = database.execute("select number, record from version where number = 2").fetchall()
        ((_, record),) = rows
        assert record.count(made) >= 1
        # as if it had been trained with another torch
        database.execute("update version set record = ? where number = 2", (record.replace(made, "1.0.0"),))
    lived_in.settings(environment="refuse", evaluate={"max_length": 60})  # nothing is known with this length
    for words in (
        ("matrix", 2, "--fill"),
        ("gate", 1, 2),
        ("review", "add", 1, 2, "--task", "increment_1"),
        ("lm-eval", "run", 2, "--tasks", "x"),
    ):
        assert_clear(lived_in.nacre(*words), "version 2 was made in another environment", "environment: refuse")
    lived_in.settings(environment="show")
    assert lived_in.nacre("matrix", 2, "--fill").code == 0

"""`nacre gate OLD NEW`: files of scores, and versions; exit codes, JSON, JUnit, Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from workspace_kit import Outcome, Place, assert_clear, write_lines


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def rows(count: int, *, wrong: Sequence[int] = (), task: str | None = None, **more: Any) -> list[dict[str, Any]]:
    named = {} if task is None else {"task": task}
    return [{"id": i, "score": float(i not in wrong), **named, **more} for i in range(count)]


def gate(place: Place, old: list[dict[str, Any]], new: list[dict[str, Any]], *words: str) -> Outcome:
    write_lines(place.root / "old.jsonl", old)
    write_lines(place.root / "new.jsonl", new)
    return place.nacre("gate", "old.jsonl", "new.jsonl", *words)


def test_unchanged_scores_pass_and_lost_ones_fail(place: Place) -> None:
    same = gate(place, rows(300), rows(300)[::-1])
    assert same.code == 0
    assert same.out.rstrip().endswith("new.jsonl against old.jsonl: pass")
    lost = gate(place, rows(300), rows(300, wrong=range(0, 300, 5)), "--json")
    found = lost.json
    assert (lost.code, found["verdict"], found["confidence"], found["power"]) == (3, "fail", 0.95, 0.8)
    task = found["tasks"]["all rows"]
    assert (task["drop"], task["rows"], task["lost"], task["gained"]) == (pytest.approx(0.2), 300, 60, 0)
    assert task["interval"][0] < 0.2 < task["interval"][1]
    assert task["e_value"] >= 20
    assert task["p_value"] <= 0.05
    assert 0 < task["rows_used"] < 300
    assert task["rows_saved"] == 0, "all were scored"
    assert task["rows_missing"] == 0
    assert task["flips"][0]["identity"] == "0"


def test_too_few_rows_are_undecided_and_say_how_many_are_missing(place: Place) -> None:
    found = gate(place, rows(20), rows(20, wrong=[3]), "--margin", "0.02", "--json")
    assert (found.code, found.json["verdict"]) == (4, "undecided")
    assert found.json["tasks"]["all rows"]["rows_missing"] > 100


def test_margin_confidence_and_test_can_be_said(place: Place) -> None:
    old, new = rows(400), rows(400, wrong=range(0, 400, 20))
    assert gate(place, old, new, "--margin", "0.01").code == 3
    wide = gate(place, old, new, "--margin", "0.15", "--json")
    assert (wide.code, wide.json["tasks"]["all rows"]["margin"]) == (0, 0.15)
    found = gate(place, old, new, "--margin", "0.01", "--test", "mcnemar", "--confidence", "0.99", "--json").json
    assert found["confidence"] == 0.99
    assert "McNemar" in found["tasks"]["all rows"]["test"]
    assert "e_value" not in found["tasks"]["all rows"]
    assert found["tasks"]["all rows"]["p_value"] == pytest.approx(0.5**20 / 2)


def test_junit_and_markdown(place: Place) -> None:
    old = rows(300, task="a", prompt="what | is <this>?\x00", answer="yes") + rows(300, task="b")
    new = rows(300, task="a", prompt="what | is <this>?\x00", answer="no", wrong=range(90)) + rows(300, task="b")
    found = gate(place, old, new, "--junit", "report.xml", "--markdown", "report.md")
    assert found.code == 3
    root = ElementTree.fromstring((place.root / "report.xml").read_bytes())
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    cases = {case.get("name"): case for case in root.iter("testcase")}
    failure = cases["a"].find("failure")
    assert failure is not None
    assert failure.get("type") == "fail"
    assert "drop +0.3000" in str(failure.get("message"))
    assert "row 0 right → wrong" in str(failure.text)
    assert cases["b"].find("failure") is None
    page = (place.root / "report.md").read_text(encoding="utf-8")
    assert page.startswith("# new.jsonl against old.jsonl: fail\n")
    assert "| a | fail | 1.000 | 0.700 | +0.300 |" in page
    assert "## a: 90 rows lost, 0 gained" in page
    assert "| 0 | lost | what \\| is &lt;this>?" in page
    assert "70 more" in page


def test_what_does_not_fit_is_counted_and_named_by_line(place: Place) -> None:
    old = rows(200)
    lines = [json.dumps(row) for row in rows(200)]
    lines[1] = "{not json"
    lines[2] = json.dumps({"id": 2})
    lines[3] = json.dumps({"id": 3, "score": 7})
    lines[4] = json.dumps({"score": 1})
    lines[5] = json.dumps({"id": 5, "score": "good"})
    lines[6] = "[1, 2]"
    lines += [json.dumps({"id": 9, "score": 0}), json.dumps({"id": "other", "score": 1}), ""]
    write_lines(place.root / "old.jsonl", old)
    (place.root / "new.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert place.json("gate", "old.jsonl", "new.jsonl", code=4)["tasks"]["all rows"]["verdict"] == "undecided"
    found = place.nacre("gate", "old.jsonl", "new.jsonl", "--json", "--allow-missing")
    assert found.code == 0
    notes = "\n".join(found.json["notes"])
    for part in (
        "1 rows left out, they are not JSON: line 2",
        "1 rows left out, they have no score: line 3",
        "1 rows left out, they have a score outside 0 to 1: line 4",
        "1 rows left out, they have no id: line 5",
        "1 rows left out, they have a score that is no number: line 6",
        "1 rows left out, they are no JSON objects: line 7",
        "1 rows left out, they repeat an id; the first row of each counts: line 201",
        "1 rows left out: only new.jsonl has them: line 202",
        "6 rows left out: only old.jsonl has them: line 2, 3, 4, 5, 6 …",
    ):
        assert part in notes
    assert found.json["tasks"]["all rows"]["rows"] == 194


def test_a_json_array_and_other_names_for_id_and_score(place: Place) -> None:
    (place.root / "old.json").write_text(json.dumps([{"question_id": i, "correct": True} for i in range(200)]))
    (place.root / "new.json").write_text(json.dumps([{"idx": i, "acc": 1, "f1": 0} for i in range(200)]))
    assert_clear(place.nacre("gate", "old.json", "new.json"), "stand under different keys")
    found = place.nacre("gate", "old.json#correct", "new.json#acc", "--json")
    assert found.code == 0
    assert "new.json: the score is what stands under acc" in found.json["notes"]
    assert place.nacre("gate", "old.json#correct", "new.json#f1", "--json").json["verdict"] == "fail"


def test_a_task_that_vanished_or_lost_rows_cannot_pass(place: Place) -> None:
    old = rows(300, task="a") + rows(300, task="b")
    gone = gate(place, old, rows(300, task="a"), "--json", "--junit", "gate.xml")
    assert (gone.code, gone.json["tasks"]["a"]["verdict"], gone.json["tasks"]["b"]["verdict"]) == (
        4,
        "pass",
        "undecided",
    )
    assert "new.jsonl has none of its 300 rows" in "".join(gone.json["notes"])
    assert "300 rows left out: only old.jsonl has them" in (place.root / "gate.xml").read_text(encoding="utf-8")
    half = [{**row, "score": None} if i % 2 else row for i, row in enumerate(rows(300))]
    crashed = gate(place, rows(300), half, "--json")
    assert (crashed.code, crashed.json["tasks"]["all rows"]["verdict"]) == (4, "undecided")
    assert "new.jsonl lacks 150 of the 300 rows that old.jsonl has" in "".join(crashed.json["notes"])
    assert gate(place, rows(300), half, "--allow-missing").code == 0
    assert gate(place, old, rows(300, task="a"), "--allow-missing").code == 0
    lost = gate(place, rows(300), rows(300, wrong=range(0, 300, 3))[:200])
    assert lost.code == 3, "what was lost in the other rows stays lost"
    more = gate(place, rows(300), rows(310))
    assert more.code == 0, "rows that only NEW has hide nothing"


def test_ids_that_stand_for_several_rows_cannot_pass_if_they_contradict_each_other(place: Place) -> None:
    twice = rows(300) + rows(300, wrong=range(300))
    assert gate(place, twice, twice).code == 4
    assert "300 ids stand for rows that contradict each other" in gate(place, twice, twice).out
    assert gate(place, twice, twice, "--allow-missing").code == 0
    assert gate(place, rows(300) + rows(300), rows(300)).code == 0


def test_one_key_is_read_for_all_rows_of_a_task_and_in_both_files(place: Place) -> None:
    """A row in which the first metric cannot be read must not be scored by another one than the rest."""
    old = [{"id": i, "acc": 0.0, "exact_match": 1.0} for i in range(300)]
    new = [{"id": i, "acc": None if i % 2 else 0.0, "exact_match": 1.0} for i in range(300)]
    found = gate(place, old, new, "--json").json
    assert found["tasks"]["all rows"]["metric"] == "exact_match"
    assert (found["tasks"]["all rows"]["before"], found["tasks"]["all rows"]["after"]) == (1.0, 1.0)
    found = gate(place, old, [{"id": i, "acc" if i % 2 else "exact_match": 1.0} for i in range(300)], "--json").json
    assert (found["verdict"], found["tasks"]["all rows"]["rows"]) == ("undecided", 150)
    assert_clear(gate(place, old, [{"id": i, "passed": True} for i in range(300)]), "stand under different keys")
    assert place.json("gate", "old.jsonl#acc", "old.jsonl")["tasks"]["all rows"]["metric"] == "acc"


def lm_eval(count: int, *, wrong: Sequence[int] = (), doc: str = "text") -> list[dict[str, Any]]:
    return [
        {
            "doc_id": i,
            "doc": {"question": "q"},
            "target": "yes",
            "arguments": {"gen_args_0": {"arg_0": f"Question {i}", "arg_1": {"until": []}}},
            "resps": [["no" if i in wrong else "yes"]],
            "filtered_resps": ["no" if i in wrong else "yes"],
            "filter": kind,
            "metrics": ["bleu", "exact_match", "acc_norm"],
            "doc_hash": f"{doc} {i}",
            "bleu": ["yes", "no"],
            "exact_match": float(i not in wrong),
            "acc_norm": 1.0,
        }
        for kind in ("none", "strict")
        for i in range(count)
    ]


def test_the_samples_of_lm_eval(place: Place) -> None:
    old, new = "samples_arc_2026-01-02T03-04-05.jsonl", "samples_arc_2026-02-02T03-04-05.123.jsonl"
    write_lines(place.root / old, lm_eval(250))
    write_lines(place.root / new, lm_eval(250, wrong=range(0, 250, 4)))
    found = place.json("gate", old, new, code=3)
    assert list(found["tasks"]) == ["arc", "arc (strict)"]
    flip = found["tasks"]["arc"]["flips"][0]
    assert (flip["prompt"], flip["answer_before"], flip["answer_after"]) == ("Question 0", "yes", "no")
    assert any("the score is what stands under exact_match" in note for note in found["notes"])
    assert place.json("gate", f"{old}#acc_norm", f"{new}#acc_norm")["verdict"] == "pass"
    write_lines(
        place.root / new, lm_eval(240) + [{**row, "doc_hash": "?"} for row in lm_eval(250) if row["doc_id"] > 239]
    )
    assert place.nacre("gate", old, new).code == 4
    found = place.json("gate", old, new, "--allow-missing")
    assert any("20 rows left out: the same id stands for another question" in note for note in found["notes"])


def test_samples_of_one_task_are_paired_whatever_their_files_are_called(place: Place) -> None:
    write_lines(place.root / "samples_arc_A.jsonl", lm_eval(250))
    write_lines(place.root / "samples_arc_B.jsonl", lm_eval(250))
    write_lines(place.root / "samples_boolq.jsonl", lm_eval(250, doc="other"))
    found = place.json("gate", "samples_arc_A.jsonl#acc_norm", "samples_arc_B.jsonl#acc_norm")
    assert list(found["tasks"]) == ["arc_A", "arc_A (strict)"]
    assert any("samples_arc_B.jsonl arc_B: taken for one task" in note for note in found["notes"])
    assert_clear(place.nacre("gate", "samples_arc_A.jsonl", "samples_boolq.jsonl"), "no row in common")


def test_numbers_and_nesting_beyond_all_measure_are_no_crash(place: Place) -> None:
    lines = [json.dumps(row) for row in rows(200)]
    lines[1] = f'{{"id": 1, "score": {"9" * 400}}}'
    lines[2] = "[" * 200_000 + "]" * 200_000
    (place.root / "new.jsonl").write_text("\n".join(lines), encoding="utf-8")
    write_lines(place.root / "old.jsonl", rows(200))
    notes = "\n".join(place.json("gate", "old.jsonl", "new.jsonl", code=4)["notes"])
    assert "they have a score outside 0 to 1: line 2" in notes
    assert "they are not JSON: line 3" in notes
    (place.root / "deep.json").write_text("[" * 200_000 + "]" * 200_000)
    assert_clear(place.nacre("gate", "old.jsonl", "deep.json"), "not valid JSON")
    for test in ("sequential", "score", "mcnemar", "bootstrap"):
        assert place.nacre("gate", "old.jsonl", "old.jsonl", "--margin", "1e-300", "--test", test).code == 4
    assert_clear(place.nacre("gate", "²", "1"), "a version cannot be compared with a file")


def test_a_margin_of_the_command_is_called_so_and_may_be_auto(fresh: Place) -> None:
    fresh.settings(keep={"max_drop": 0.3, "tasks": {"all rows": 0.2}})
    write_lines(fresh.root / "old.jsonl", rows(200))
    write_lines(fresh.root / "one.jsonl", rows(1))

    def margin(*words: str, file: str = "old.jsonl") -> tuple[float, str]:
        task = json.loads(fresh.nacre("gate", file, file, "--json", *words).out)["tasks"]["all rows"]
        return task["margin"], task["margin_why"].partition(";")[0]

    assert margin() == (0.2, "set by keep.tasks.all rows")
    assert margin("--margin", "0.1") == (0.1, "set by --margin")
    assert margin("--margin", "0.1", file="one.jsonl") == (0.1, "set by --margin")
    assert margin("--margin", "auto") == (0.02, "auto: 0.02")
    assert_clear(fresh.nacre("gate", "old.jsonl", "old.jsonl", "--margin", "wide"), "a margin of 'wide'")


def test_an_answer_that_became_empty_is_shown(place: Place) -> None:
    old, new = rows(300, answer="yes"), rows(300, answer="", wrong=range(90))
    found = gate(place, old, new, "--markdown", "gate.md")
    assert "row 0 right → wrong: 'yes' → ''" in found.out
    assert "| 0 | lost |  | yes | (empty) |" in (place.root / "gate.md").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_told_before_anything_is_compared(place: Place) -> None:
    (place.root / "file").write_text("")
    for option in ("--junit", "--markdown"):
        assert_clear(place.nacre("gate", "nothing.jsonl", "nothing.jsonl", option, "."), f"{option} .")
        assert_clear(place.nacre("gate", "nothing.jsonl", "nothing.jsonl", option, "file/gate.xml"), "no file can be")


def test_settings_of_the_workspace_are_used_for_files_too(fresh: Place) -> None:
    fresh.settings(keep={"max_drop": 0.3}, gate={"rules": ["latency"], "test": "bootstrap"})
    write_lines(fresh.root / "old.jsonl", rows(200))
    found = fresh.json("gate", "old.jsonl", "old.jsonl", code=4)
    assert found["tasks"]["all rows"]["margin"] == 0.3
    assert found["tasks"]["all rows"]["test"] == "paired bootstrap"
    assert found["rules"][0]["outcome"] == "undecided"
    assert "fewer than two requests were timed" in found["rules"][0]["why"]


def test_mistakes_are_told_with_a_way_out(place: Place) -> None:
    write_lines(place.root / "old.jsonl", rows(9))
    write_lines(place.root / "other.jsonl", [{"id": f"x{i}", "score": 1} for i in range(9)])
    (place.root / "broken.json").write_text("[{]")
    (place.root / "empty.jsonl").write_text("")
    (place.root / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    assert_clear(place.nacre("gate", "old.jsonl", "nothing.jsonl"), "the file does not exist")
    assert_clear(place.nacre("gate", "old.jsonl", "other.jsonl"), "no row in common")
    assert_clear(place.nacre("gate", "old.jsonl", "broken.json"), "not valid JSON")
    assert_clear(place.nacre("gate", "old.jsonl", "empty.jsonl"), "no row with an id and a score")
    assert_clear(place.nacre("gate", "old.jsonl", "latin.jsonl"), "not UTF-8")
    assert_clear(place.nacre("gate", "old.jsonl", "."), "this is a folder")
    assert_clear(place.nacre("gate", "1", "old.jsonl"), "a version cannot be compared with a file")
    assert_clear(place.nacre("gate", "1", "2"), "this is no workspace")
    assert_clear(place.nacre("gate", "old.jsonl", "old.jsonl", "--margin", "2"), "a margin of 2.0")
    assert_clear(place.nacre("gate", "old.jsonl", "old.jsonl", "--confidence", "1"), "a confidence of 1.0")


def test_versions_are_compared_without_a_trace_in_the_ledger(lived_in: Place) -> None:
    before = lived_in.json("versions", "show", 2)
    found = lived_in.json("gate", 1, 2)
    assert found["verdict"] == "pass"
    assert list(found["tasks"]) == ["base"]
    assert list(found["new_tasks"]) == ["increment_1"]
    assert found["tasks"]["base"]["rows"] == 80
    back = lived_in.json("gate", 2, 1, code=3)
    assert back["tasks"]["increment_1"]["verdict"] == "fail"
    flip = back["tasks"]["increment_1"]["flips"][0]
    assert flip["prompt"].startswith("feed ")
    assert flip["answer_before"] != flip["answer_after"]
    assert lived_in.json("gate", 0, 2)["notes"]
    assert lived_in.json("versions", "show", 2) == before
    assert_clear(lived_in.nacre("gate", 1, 7), "there is no version 7")
    assert_clear(lived_in.nacre("gate", 1, 2, "--allow-missing"), "rows of versions are never missing")
    base = lived_in.json("gate", 1, 0, code=3)
    assert base["tasks"]["base"]["verdict"] == "fail"
    assert base["tasks"]["base"]["after"] == lived_in.json("gate", 0, 1)["new_tasks"]["base"][0]

"""Against a real Label Studio server, two real accounts in it: NACRE_LABEL_STUDIO=path/to/label-studio."""

import json
import os
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from label_studio_kit import VARIABLE, LabelStudio, chosen, label_studio, written
from nacre.base.clock import now
from nacre.cycle.workspace import Workspace
from nacre.data.annotate import projects
from nacre.data.convert import read_examples
from nacre.records.draft import Draft
from toy_kit import ask
from workspace_kit import Place, assert_clear, write_lines

__all__ = ["label_studio"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} does not name the program label-studio"),
]

CLASSES = ("Good", "Bad")
ROWS = 120


@pytest.fixture
def place(label_studio: LabelStudio, fresh: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.anna.token)
    return fresh


def annotate(place: Place, *words: str | int, code: int = 0):
    return place.json("data", "annotate", *words, code=code)


def push_reviews(place: Place, project: str, rows: int = ROWS, code: int = 0):
    given = [
        {"messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": f"row <{n}> & $text"},
                      {"role": "assistant", "content": "?"}], "topic": f"t{n}"}
        for n in range(rows)
    ]  # fmt: skip
    write_lines(place.root / "reviews.jsonl", given)
    words = [word for name in CLASSES for word in ("--class", name)]
    return annotate(place, "push", "reviews.jsonl", "--ask", "classify", "--project", project, "--people", 2, *words)


def test_two_people_answer_differ_and_are_decided(
    place: Place, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = label_studio.anna, label_studio.ben
    monkeypatch.setattr(projects, "BATCH", 50)
    assert push_reviews(place, "reviews", 70)["added"] == 70
    found = push_reviews(place, "reviews")
    assert (found["added"], found["known"], found["made"]) == (50, 70, False)
    assert push_reviews(place, "reviews")["added"] == 0
    project = found["project"]
    said = []
    for place_of, task in enumerate(anna.tasks(project)):
        first = CLASSES[place_of % 2]
        second = CLASSES[1 - place_of % 2] if place_of % 40 == 0 else first
        anna.answer(task["id"], chosen("class", "text", first))
        ben.answer(task["id"], chosen("class", "text", second))
        said.append((first, second))
    found = annotate(place, "pull", "--project", "reviews", "--out", "export.json")
    assert (found["tasks"], found["answered"]) == (ROWS, ROWS)
    found = annotate(place, "agree", "export.json", "--disputed", "disputed.json")
    assert found["raters"] == {anna.number: ROWS, ben.number: ROWS}
    assert found["agreement"]["value"] == pytest.approx(cohen_kappa_score(*zip(*said, strict=True)))
    assert found["outcome"] == "pass"
    assert len(found["disputed"]) == 3
    assert annotate(place, "adjudicate", "disputed.json", "--project", "disputed reviews")["added"] == 3
    again = annotate(place, "adjudicate", "disputed.json", "--project", "disputed reviews")
    assert (again["added"], again["known"]) == (0, 3)
    for task in anna.tasks(again["project"]):
        assert task["data"]["said"] == "Bad (1)\nGood (1)"
        anna.answer(task["id"], chosen("class", "text", "Bad"))
    annotate(place, "pull", "--project", "disputed reviews", "--out", "decided.json")
    found = annotate(place, "rows", "export.json", "--decided", "decided.json", "--out", "rows.jsonl")
    assert (found["rows"], found["settled"], found["disputed"]) == (ROWS, 3, [])
    rows = read_examples(place.root / "rows.jsonl").examples
    assert [row.answer for row in rows] == ["Bad" if one != other else one for one, other in said]
    assert (rows[40].system, rows[40].prompt[0].content) == ("Judge.", "row <40> & $text")
    extra = rows[40].origin.extra
    assert (extra["origin_file"], extra["origin_line"], extra["topic"]) == ("reviews.jsonl", 41, "t40")
    assert (extra["answered_by"], extra["decided_by"]) == (f"{anna.number},{ben.number}", anna.number)


def test_drafts_go_out_and_decisions_come_in(place: Place, label_studio: LabelStudio) -> None:
    with Workspace.open(place.root) as space:
        rows = [ask(f"question {n}", f"answer {n}") for n in range(5)]
        space.ledger.drafts.add([Draft(queue="made", row=row, model="wise", created=now()) for row in rows])
    sent = annotate(place, "drafts", "push", "--queue", "made", "--people", 2)
    assert sent["added"] == 5
    assert annotate(place, "drafts", "push", "--queue", "made")["known"] == 5
    anna, ben = label_studio.anna, label_studio.ben
    tasks = [task["id"] for task in anna.tasks(sent["project"])]
    yes, no = chosen("decision", "answer", "accept"), chosen("decision", "answer", "reject")
    anna.answer(tasks[0], yes)
    anna.answer(tasks[1], no)
    anna.answer(tasks[2], yes, written("corrected_answer", "answer", "a better answer"))
    truth = anna.answer(tasks[3], yes)
    ben.answer(tasks[3], no)
    found = annotate(place, "drafts", "pull", "--queue", "made")
    assert (len(found["accepted"]), len(found["rejected"])) == (2, 1)
    assert any(note.startswith("1 drafts are disputed") for note in found["notes"])
    assert any(note.startswith("1 drafts wait") for note in found["notes"])
    anna.mark_truth(truth)
    assert len(annotate(place, "drafts", "pull", "--queue", "made")["accepted"]) == 1
    assert annotate(place, "drafts", "pull", "--queue", "made")["accepted"] == []
    place.json("data", "review", "--queue", "made", "--increment", "made_1")
    rows = read_examples(place.dataset / "made_1" / "train.jsonl").examples
    assert [row.answer for row in rows] == ["answer 0", "a better answer", "answer 3"]
    assert rows[1].origin.extra["accepted_by"] == "anna@example.org"
    assert (rows[1].origin.extra["edited"], rows[0].origin.extra["edited"]) == ("yes", "no")


def test_the_other_questions_come_back_as_rows(place: Place, label_studio: LabelStudio) -> None:
    anna = label_studio.anna
    write_lines(place.root / "one.jsonl", [{"instruction": "q", "output": "bad"}])
    write_lines(place.root / "pair.jsonl", [{"instruction": "q", "chosen": "one", "rejected": "two"}])
    better = {"from_name": "better", "to_name": "left,right", "type": "pairwise", "value": {"selected": "left"}}
    stars = {"from_name": "stars", "to_name": "answer", "type": "rating", "value": {"rating": 1}}
    asked = {
        "correct": ("one.jsonl", written("correction", "question", "good"), "sft"),
        "compare": ("pair.jsonl", better, "preference"),
        "rate": ("one.jsonl", stars, "kto"),
    }
    for question, (file, result, kind) in asked.items():
        sent = annotate(place, "push", file, "--ask", question, "--project", f"the {question}")
        (task,) = anna.tasks(sent["project"])
        anna.answer(task["id"], result)
        annotate(place, "pull", "--project", sent["project"], "--out", "one.json")
        annotate(place, "rows", "one.json", "--out", "rows.jsonl", "--ungated")
        (row,) = read_examples(place.root / "rows.jsonl").examples
        assert (row.kind, row.prompt[0].content) == (kind, "q")
        expected = {"correct": "good", "compare": task["data"].get("left"), "rate": "bad"}
        assert row.answer == expected[question]
        assert row.desirable is (False if question == "rate" else None)


def test_tokens_and_addresses(place: Place, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = label_studio.anna
    push_reviews(place, "again", 2)
    pull = ("data", "annotate", "pull", "--project", "again", "--out", "export.json")
    settings = anna.call("GET", "/api/jwt/settings")
    anna.call("POST", "/api/jwt/settings", {**settings, "legacy_api_tokens_enabled": True})
    legacy = anna.call("GET", "/api/current-user/token")["token"]
    Path(place.root / "token").write_text(legacy + "\n")
    assert place.nacre("data", "annotate", "--token-file", "token", *pull[2:]).code == 0
    anna.call("POST", "/api/jwt/settings", {**settings, "legacy_api_tokens_enabled": False})
    refused = place.nacre("data", "annotate", "--token-file", "token", *pull[2:])
    assert_clear(refused, "does not take the token", "legacy token authentication has been disabled", "personal")
    assert legacy not in refused.err
    for wrong in ("nonsense", "a.b.c"):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", wrong)
        assert_clear(place.nacre(*pull), "does not take the")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", anna.token)
    kept = (place.root / "export.json").read_bytes()
    assert len(json.loads(kept)) == 2
    assert_clear(place.nacre(*pull[:4], "nothing", *pull[5:]), "no project 'nothing'")
    monkeypatch.setenv("LABEL_STUDIO_URL", f"{label_studio.url}/projects/1/data")
    assert_clear(place.nacre(*pull), "the address of Label Studio alone")
    words = ("push", "reviews.jsonl", "--ask", "correct", "--project", "again")
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    assert_clear(place.nacre("data", "annotate", *words), "asks another question")

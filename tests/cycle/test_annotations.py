"""Answers of several people, out of exports as Label Studio 1.23 writes them, to a verdict, decisions and rows."""

import json
import random
import sys
from pathlib import Path

import click
import pytest
import typer
from sklearn.metrics import cohen_kappa_score

import nacre.demo
from label_studio_kit import Faulty
from nacre.base.clock import now
from nacre.cycle.workspace import Workspace
from nacre.data.annotate.questions import config, tasks_of
from nacre.data.compose.pieces import Piece
from nacre.data.convert import read_examples
from nacre.records import Example, Message, Origin
from nacre.records.draft import Draft
from workspace_kit import Place, assert_clear

CLASSES = "xyz"


def example(place, **more):
    extra = {"origin_file": "tickets.csv", "origin_line": place + 1}
    prompt = (Message(role="user", content=f"ticket {place}"),)
    answers = (Message(role="assistant", content="?"),)
    return Example(prompt=prompt, answers=answers, system="s", origin=Origin(extra=extra), **more)


def result(value, kind="choices", name="class", to="text"):
    key = {"choices": "choices", "textarea": "text", "rating": "rating", "pairwise": "selected"}[kind]
    held = [value] if kind in ("choices", "textarea") else value
    return {"id": "Xb1", "type": kind, "value": {key: held}, "origin": "manual", "to_name": to, "from_name": name}


def annotation(rater, *results, number=1, **more):
    """As a server of version 1.23.2 exported what was submitted in its labelling page; only the values differ."""
    return {
        "id": number, "completed_by": rater, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-11-21T18:44:48.165784Z", "updated_at": "2026-11-21T18:44:48.177944Z",
        "draft_created_at": None, "lead_time": 2.275, "prediction": {}, "result_count": len(results),
        "unique_id": "d3d228aa-e23b-4bc1-b0f6-da29d0c3d4bf", "import_id": None, "last_action": None,
        "bulk_created": False, "task": 9, "project": 4, "updated_by": rater, "parent_prediction": None,
        "parent_annotation": None, "last_created_by": None,
    } | more  # fmt: skip


def task(number, data, *annotations):
    """The same, of a task."""
    return {
        "id": number, "annotations": list(annotations), "drafts": [], "predictions": [], "data": data, "meta": {},
        "created_at": "2026-11-21T18:43:04.778795Z", "updated_at": "2026-11-21T18:43:04.778802Z", "allow_skip": True,
        "inner_id": number, "total_annotations": len(annotations), "cancelled_annotations": 0, "total_predictions": 0,
        "comment_count": 0, "unresolved_comment_count": 0, "last_comment_updated_at": None, "project": 4,
        "updated_by": 1, "comment_authors": [],
    }  # fmt: skip


def export(place: Place, said, *, ask="classify", make=result, name="export.json") -> list[dict]:
    """One task for each answer by rater; None skips."""
    tasks, _ = tasks_of([Piece(example(number)) for number in range(len(said))], ask)
    found = []
    for number, (one, answers) in enumerate(zip(tasks, said, strict=True), start=101):
        given = [
            annotation(rater, make(answer), number=number * 10 + rater) for rater, answer in answers.items() if answer
        ]
        found.append(task(number, one["data"], *given))
    (place.root / name).write_text(json.dumps(found, ensure_ascii=False))
    return found


def answers(count, share, raters=(1, 2), seed=0):
    """Each rater gives the class that is right with this chance, else one by chance."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        right = draw.choice(CLASSES)
        found.append({rater: right if draw.random() < share else draw.choice(CLASSES) for rater in raters})
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def annotate(place: Place, *words, code=0):
    return place.json("data", "annotate", *words, code=code)


@pytest.mark.parametrize(
    ("count", "share", "code", "why"),
    [
        (200, 0.98, 0, "all of it at 0.8 or above"),
        (200, 0.5, 3, "all of it below 0.8"),
        (200, 0.9, 4, "0.8 lies within it"),
        (60, 0.98, 4, "too few items: 60 of 100 were answered by several, 40 more"),
        (60, 0.2, 4, "too few items"),
    ],
)
def test_the_gate_says_which(place, count, share, code, why):
    said = answers(count, share)
    export(place, said)
    found = annotate(place, "agree", "export.json", code=code)
    assert why in found["why"]
    value = cohen_kappa_score([one[1] for one in said], [one[2] for one in said])
    assert found["agreement"]["value"] == pytest.approx(value)
    assert found["agreement"]["low"] < value < found["agreement"]["high"]
    assert found["raters"] == {"1": count, "2": count}
    assert len(found["disputed"]) == sum(one[1] != one[2] for one in said)
    shown = place.nacre("data", "annotate", "agree", "export.json")
    assert shown.code == code
    assert why in shown.out


def test_the_target_and_the_number_of_items_can_be_set(place):
    export(place, answers(60, 0.9))
    assert annotate(place, "agree", "export.json", "--items", 50, "--at-least", 0.5)["outcome"] == "pass"
    assert annotate(place, "agree", "export.json", "--items", 50, "--at-least", 1, code=3)["outcome"] == "fail"


def test_more_than_two_raters_are_fleiss_and_who_answers_less_is_said(place):
    said = answers(150, 0.97, raters=(1, 2, 3))
    for one in said[:10]:
        one[3] = None
    export(place, said)
    found = annotate(place, "agree", "export.json")
    assert found["agreement"]["name"].startswith("Fleiss")
    assert (found["agreement"]["items"], found["raters"]["3"]) == (140, 140)
    assert "10 tasks have another number of answers and are not in kappa" in found["notes"]
    two = annotate(place, "agree", "export.json", "--rater", 1, "--rater", 2)
    assert (two["agreement"]["items"], two["adjudicators"]) == (150, ["3"])
    assert_clear(place.nacre("data", "annotate", "agree", "export.json", "--rater", "9"), "unknown person '9'")


def test_who_only_decides_is_no_rater(place):
    said = answers(120, 0.97)
    tasks = export(place, said)
    before = annotate(place, "agree", "export.json")
    for one, given in zip(tasks, said, strict=True):
        if given[1] != given[2]:
            one["annotations"].append(annotation(7, result(given[2]), ground_truth=True))
    (place.root / "export.json").write_text(json.dumps(tasks))
    found = annotate(place, "agree", "export.json")
    assert found["agreement"] == before["agreement"]
    assert found["adjudicators"] == ["7"]
    assert (found["disputed"], found["settled"]) == ([], len(before["disputed"]))
    assert annotate(place, "rows", "export.json", "--out", "rows.jsonl")["rows"] == 120


def test_rows_are_written_when_people_agree_and_each_says_where_it_is_from(place):
    said = answers(120, 0.98)
    export(place, said)
    found = annotate(place, "rows", "export.json", "--out", "rows.jsonl")
    differ = [number for number, one in enumerate(said) if one[1] != one[2]]
    assert differ
    assert found["left"] == {"the answers differ, and no decision holds": len(differ)}
    rows = read_examples(place.root / "rows.jsonl").examples
    assert [row.answer for row in rows] == [one[1] for one in said if one[1] == one[2]]
    assert (rows[0].system, rows[0].prompt[0].content) == ("s", "ticket 0")
    extra = rows[0].origin.extra
    assert (extra["origin_file"], extra["origin_line"], extra["origin"]) == ("tickets.csv", 1, "annotated")
    assert (extra["task"], extra["answered_by"], extra["kappa"]) == (101, "1,2", round(found["agreement"]["value"], 3))
    direct = read_examples(place.root / "export.json")
    assert [row.answer for row in direct.examples] == [row.answer for row in rows]


def test_nothing_is_written_when_people_do_not_agree(place):
    export(place, answers(150, 0.5))
    assert annotate(place, "rows", "export.json", "--out", "rows.jsonl", code=3)["file"] is None
    assert not (place.root / "rows.jsonl").exists()
    export(place, answers(20, 0.98))
    refused = place.nacre("data", "annotate", "rows", "export.json", "--out", "rows.jsonl")
    assert (refused.code, (place.root / "rows.jsonl").exists()) == (4, False)
    assert "nothing was written" in refused.out
    shown = place.nacre("data", "annotate", "rows", "export.json", "--out", "rows.jsonl", "--ungated")
    assert shown.code == 0
    assert "not gated: too few items" in shown.out


def test_what_people_differ_in_is_decided_by_number_or_by_key(place, monkeypatch):
    said = answers(120, 0.97)
    export(place, said)
    found = annotate(place, "agree", "export.json", "--disputed", "disputed.json")
    disputed = found["disputed"]
    assert len(disputed) >= 3
    first, second = disputed[0], disputed[1]
    words = ("data", "annotate", "decide", "disputed.json", "--out", "decided.json", "--by", "cleo")
    assert_clear(place.nacre(*words), "in a terminal only")
    assert_clear(place.nacre(*words, "--choose", "3=x"), "unknown task '3'")
    assert_clear(place.nacre(*words, "--choose", f"{first['task']}=w"), "unknown answer 'w'")
    assert_clear(place.nacre(*words, "--choose", "nothing"), "write TASK=ANSWER")
    assert_clear(place.nacre(*words[:-1], " ", "--choose", f"{first['task']}=x"), "who decides")
    assert not (place.root / "decided.json").exists()
    chosen = first["said"]["2"]
    done = place.json(*words, "--choose", f"{first['task']}={chosen}")
    assert (done["decided"], done["total"]) == (1, 1)
    found = annotate(place, "agree", "export.json", "--decided", "decided.json")
    assert (found["settled"], len(found["disputed"])) == (1, len(disputed) - 1)
    keys = iter("?s" + "1" * len(disputed))
    monkeypatch.setattr(typer, "getchar", lambda: next(keys))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    shown = place.nacre(*words)
    assert f"task {second['task']}" in shown.out
    assert f"task {first['task']} " not in shown.out
    found = annotate(place, "rows", "export.json", "--decided", "decided.json", "--out", "rows.jsonl")
    assert [one["task"] for one in found["disputed"]] == [second["task"]]
    assert found["rows"] == 119
    rows = {row.origin.extra["task"]: row for row in read_examples(place.root / "rows.jsonl").examples}
    assert rows[first["task"]].answer == chosen
    assert rows[first["task"]].origin.extra["decided_by"] == "cleo"
    third = disputed[2]
    assert rows[third["task"]].answer == min(third["said"].values())
    assert "decided_by" not in next(row for row in rows.values() if row.origin.extra["task"] == 101).origin.extra


def test_a_decision_counts_before_what_all_said(place):
    tasks = export(place, [{1: "x", 2: "x"}])
    other = task(9, tasks[0]["data"], annotation(7, result("y")))
    foreign = task(10, {"text": "f"}, annotation(7, result("y")))
    (place.root / "decided.json").write_text(json.dumps([other, foreign]))
    words = ("export.json", "--decided", "decided.json")
    assert "1 decisions are on tasks that the export has not" in annotate(place, "agree", *words, code=4)["notes"]
    annotate(place, "rows", *words, "--ungated", "--out", "rows.jsonl")
    assert [row.answer for row in read_examples(place.root / "rows.jsonl").examples] == ["y"]


def test_free_text_has_no_kappa_but_is_disputed_and_decided(place, monkeypatch):
    said = [{1: "one", 2: " one\n"}, {1: "two", 2: "zwei"}, {1: "three"}, {1: "vier", 2: "four"}]
    export(place, said, ask="correct", make=lambda text: result(text, "textarea", "correction", "question"))
    found = annotate(place, "agree", "export.json", "--disputed", "disputed.json")
    assert (found["agreement"], found["outcome"], len(found["disputed"])) == (None, None, 2)
    written = place.json("data", "annotate", "decide", "disputed.json", "--out", "d.json", "--by", "cleo",
                         "--choose", "102=deux")  # fmt: skip
    assert written["total"] == 1
    monkeypatch.setattr(typer, "getchar", lambda: "e")
    monkeypatch.setattr(click, "edit", lambda text: f"{text}!\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert place.nacre("data", "annotate", "decide", "disputed.json", "--out", "d.json", "--by", "cleo").code == 0
    annotate(place, "rows", "export.json", "--decided", "d.json", "--out", "rows.jsonl")
    rows = read_examples(place.root / "rows.jsonl").examples
    assert [row.answer for row in rows] == ["one", "deux", "three", "four!"]


def test_stars_are_ordered_and_sides_are_pairs(place):
    export(
        place, [{1: 5, 2: 4}, {1: 1, 2: 1}] * 60, ask="rate", make=lambda one: result(one, "rating", "stars", "answer")
    )
    found = annotate(place, "agree", "export.json")
    assert "quadratic" in found["agreement"]["name"]
    assert len(found["disputed"]) == 60
    annotate(place, "rows", "export.json", "--out", "rows.jsonl")
    assert [row.desirable for row in read_examples(place.root / "rows.jsonl").examples] == [False] * 60


def test_accepted_rows_come_back_corrected_and_rejected_ones_do_not(place):
    tasks = export(place, [{1: "accept"}, {1: "reject"}, {1: "accept"}], ask="accept",
                   make=lambda one: result(one, name="decision", to="answer"))  # fmt: skip
    better = result("better", "textarea", "corrected_answer", "answer")
    tasks[2]["annotations"][0]["result"].append(better)
    (place.root / "export.json").write_text(json.dumps(tasks))
    found = annotate(place, "rows", "export.json", "--out", "rows.jsonl", "--ungated")
    assert found["left"] == {"rejected": 1}
    assert [row.answer for row in read_examples(place.root / "rows.jsonl").examples] == ["?", "better"]


def test_what_says_nothing_is_counted(place):
    skipped = annotation(1, result("x"), was_cancelled=True)
    anew = [annotation(1, result("x")), annotation(1, result("y"), number=2, created_at="2026-11-22T00:00:00Z")]
    tasks = [task(1, {"text": "a"}, skipped), task(2, {"text": "b"}, annotation(1)), task(3, {"text": "c"}, *anew)]
    (place.root / "export.json").write_text(json.dumps(tasks))
    found = annotate(place, "agree", "export.json", code=4)
    assert found["notes"] == ["1 skipped answers", "1 empty answers", "1 answers that the same person gave anew"]
    assert found["answered"] == 1
    found = annotate(place, "rows", "export.json", "--out", "rows.jsonl", "--ungated")
    (row,) = read_examples(place.root / "rows.jsonl").examples
    assert (row.prompt[0].content, row.answer, row.origin.extra["origin_file"]) == ("c", "y", "export.json")


def test_several_questions_are_told_apart_by_name(place):
    both = [
        annotation(rater, result("x", name="a"), result("p" if rater == 1 else "q", name="b"), number=rater)
        for rater in (1, 2)
    ]
    (place.root / "export.json").write_text(json.dumps([task(1, {"text": "a"}, *both)]))
    agree = ("data", "annotate", "agree", "export.json")
    assert_clear(place.nacre(*agree), "several questions are answered: a, b", "--question")
    assert_clear(place.nacre(*agree, "--question", "c"), "unknown question 'c'")
    assert annotate(place, *agree[2:], "--question", "a", code=4)["disputed"] == []
    assert len(annotate(place, *agree[2:], "--question", "b", code=4)["disputed"]) == 1
    annotate(place, "rows", "export.json", "--question", "a", "--ungated", "--out", "rows.jsonl")
    assert read_examples(place.root / "rows.jsonl").examples[0].answer == "x"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[{"id": 1, "text": "a", "class": "x", "annotator": 1}]', "no task with its annotations"),
        ('[{"id": 1, "data": {}, "annotations": [3]}]', "no object with a list 'result'"),
        ('[{"id": 1, "data": {}, "annot', ""),
        ("", ""),
    ],
)
def test_a_file_that_is_no_export(place, text, part):
    (place.root / "export.json").write_text(text)
    assert_clear(place.nacre("data", "annotate", "agree", "export.json"), part)
    assert_clear(place.nacre("data", "annotate", "rows", "export.json", "--out", "x"), part)


def test_a_file_that_is_not_there(place):
    assert_clear(place.nacre("data", "annotate", "agree", "nothing.json"), "nothing.json")
    export(place, [{1: "x"}])
    assert_clear(place.nacre("data", "annotate", "agree", "export.json", "--decided", "nothing.json"), "nothing.json")
    pull = ("data", "annotate", "--token-env", "NO_TOKEN", "pull", "--project", "p", "--out", "x")
    assert_clear(place.nacre(*pull), "there is no token", "export NO_TOKEN")


def test_an_export_without_an_answer(place):
    export(place, [{}] * 3)
    assert annotate(place, "agree", "export.json", code=4)["answered"] == 0
    rows = place.nacre("data", "annotate", "rows", "export.json", "--out", "rows.jsonl", "--ungated")
    assert_clear(rows, "no row comes of it", "nobody answered")


RECORDED = {  # what the labelling page of version 1.23.2 submits for each question
    "compare": [{"value": {"selected": "right"}, "id": "a1K6uqSlH1", "from_name": "better", "to_name": "better",
                 "type": "pairwise", "origin": "manual"}],
    "rate": [{"value": {"rating": 1}, "id": "q16nG6ZyuE", "from_name": "stars", "to_name": "answer",
              "type": "rating", "origin": "manual"}],
    "correct": [{"value": {"text": ["4"]}, "id": "Ltf0XtLvjV", "from_name": "correction", "to_name": "question",
                 "type": "textarea", "origin": "manual"}],
    "classify": [{"value": {"choices": ["Bad"]}, "id": "d2Ne8lyTvU", "from_name": "class", "to_name": "text",
                  "type": "choices", "origin": "manual"}],
    "accept": [{"value": {"choices": ["accept"]}, "id": "sNCK6ABxTF", "from_name": "decision", "to_name": "answer",
                "type": "choices", "origin": "manual"},
               {"value": {"text": ["typed"]}, "id": "2RmwdrdGG-", "from_name": "corrected_answer",
                "to_name": "answer", "type": "textarea", "origin": "manual"}],
}  # fmt: skip


@pytest.mark.parametrize("question", RECORDED)
def test_what_the_page_submits_becomes_a_row(place, question):
    row = example(0)
    if question == "compare":
        row = example(0).changed(kind="preference", answers=[{"role": "assistant", "content": one} for one in "ab"])
    ((asked,), _) = tasks_of([Piece(row)], question)
    (place.root / "export.json").write_text(json.dumps([task(1, asked["data"], annotation(1, *RECORDED[question]))]))
    annotate(place, "rows", "export.json", "--out", "rows.jsonl", "--ungated")
    (found,) = read_examples(place.root / "rows.jsonl").examples
    right = asked["data"].get("right")
    expected = {"compare": right, "rate": "?", "correct": "4", "classify": "Bad", "accept": "typed"}
    assert (found.answer, found.system, found.prompt) == (expected[question], "s", row.prompt)
    assert found.desirable is (False if question == "rate" else None)


def listed(key, total, *items):
    return {key: list(items), total: len(items)}


def project(number, title, question, *classes):
    return {"id": number, "title": title, "label_config": config(question, classes)}


def test_disputed_tasks_go_back_into_a_project_that_shows_what_was_said(place, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789")
    export(place, [{1: "x", 2: "y", 3: "x"}, {1: "x", 2: "x", 3: "x"}])
    annotate(place, "agree", "export.json", "--disputed", "disputed.json", code=4)
    none, made = listed("results", "count"), project(5, "disputed", "classify", *CLASSES)
    source = listed("results", "count", project(4, "tickets", "classify", *CLASSES))
    with Faulty(none, source, none, (201, made), listed("tasks", "total"), (201, {})) as server:
        found = annotate(place, "--url", server.url, "adjudicate", "disputed.json", "--project", "disputed")
    assert (found["project"], found["added"], found["made"]) == (5, 1, True)
    assert 'value="$said"' in json.loads(server.asked[3][3])["label_config"]
    (sent,) = json.loads(server.asked[5][3])
    assert sent["data"]["said"] == "x (2)\ny (1)"
    (place.root / "decided.json").write_text(json.dumps([task(9, sent["data"], annotation(7, result("z")))]))
    found = annotate(place, "rows", "export.json", "--decided", "decided.json", "--out", "rows.jsonl", "--ungated")
    assert (found["settled"], found["disputed"]) == (1, [])
    assert [row.answer for row in read_examples(place.root / "rows.jsonl").examples] == ["z", "x"]
    with Faulty(none) as server:
        gone = place.nacre("data", "annotate", "--url", server.url, "adjudicate", "disputed.json", "--project", "new")
    assert_clear(gone, "there is no project '4'")


@pytest.fixture
def fresh(tmp_path: Path) -> Place:
    """A workspace in which nothing is trained."""
    model = Path(nacre.demo.__file__).parent / "base"
    assert Place(tmp_path).nacre("init", "fresh", "--model", model).code == 0
    return Place(tmp_path / "fresh")


def test_drafts_are_decided_in_label_studio_and_nowhere_twice(fresh, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789")
    rows = [example(number) for number in range(6)]
    with Workspace.open(fresh.root) as space:
        space.ledger.drafts.add([Draft(queue="made", row=row, model="wise", created=now()) for row in rows])
    none, made = listed("results", "count"), project(5, "drafts made", "accept")
    words = ("drafts", "push", "--queue", "made")
    with Faulty(none, (201, made), listed("tasks", "total"), (201, {})) as server:
        assert annotate(fresh, "--url", server.url, *words)["added"] == 6
    sent = json.loads(server.asked[3][3])
    assert {key: sent[0]["data"][key] for key in ("question", "answer")} == {
        "question": "system: s\n\nuser: ticket 0",
        "answer": "?",
    }
    fresh.json("data", "review", "--queue", "made", "--accept", 6, "--by", "cleo")
    yes, no = (result(word, name="decision", to="answer") for word in ("accept", "reject"))
    better = result("better", "textarea", "corrected_answer", "answer")
    said = [
        [annotation(1, yes, better)],
        [annotation(1, no), annotation(2, no)],
        [annotation(1, yes), annotation(2, no)],
        [annotation(1, yes, was_cancelled=True)],
        [annotation(1, yes), annotation(2, yes, better)],
        [annotation(1, no)],
    ]
    tasks = [task(number, one["data"], *given) for number, (one, given) in enumerate(zip(sent, said, strict=True))]
    tasks.append(task(99, {"question": "foreign", "answer": "a"}, annotation(1, yes)))
    other = json.loads(json.dumps(tasks[3]).replace(sent[3]["data"]["nacre"]["id"], "f" * 24))
    tasks.append({**other, "annotations": [annotation(1, yes)]})
    people = [{"id": 1, "email": "anna@example.org"}, {"id": 2, "email": "ben@example.org"}]
    with Faulty(listed("results", "count", made), people, tasks) as server:
        found = annotate(fresh, "--url", server.url, "drafts", "pull", "--queue", "made")
    assert (found["accepted"], found["rejected"]) == ([1], [2])
    assert [note.split(":")[0] for note in found["notes"]] == [
        "2 drafts are disputed",
        "1 drafts wait for an answer",
        "1 drafts were decided otherwise here before, which stays",
        "1 tasks are not of this queue",
        "1 tasks are of another workspace's drafts",
        "1 skipped answers",
    ]
    with Faulty(listed("results", "count", made), people, tasks) as server:
        again = annotate(fresh, "--url", server.url, "drafts", "pull", "--queue", "made")
    assert (again["accepted"], again["rejected"]) == ([], [])
    drafts = fresh.json("data", "review", "--queue", "made", "--increment", "made_1")["drafts"]
    assert [one["by"] for one in drafts[:2]] == ["anna@example.org", "anna@example.org and ben@example.org"]
    rows = read_examples(fresh.dataset / "made_1" / "train.jsonl").examples
    assert [(row.answer, row.origin.extra["edited"]) for row in rows] == [("better", "yes"), ("?", "no")]
    assert fresh.json("verify")["faults"] == []
    (fresh.root / "export.json").write_text(json.dumps(tasks[:2]))
    refused = fresh.nacre("data", "annotate", "rows", "export.json", "--out", "rows.jsonl", "--ungated")
    assert_clear(refused, "a made-up row of a review queue")
    with Faulty(listed("results", "count")) as server:
        gone = fresh.nacre("data", "annotate", "--url", server.url, "drafts", "pull", "--queue", "made")
    assert_clear(gone, "there is no project 'drafts made'")

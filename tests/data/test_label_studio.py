"""Exports as Label Studio 1.23 writes them: a list of tasks, each with its annotations."""

import json

import pytest

from nacre.data.check import check
from nacre.data.convert import read_examples


def result(kind, value, name="answer", to="text"):
    return {"id": "x1", "type": kind, "from_name": name, "to_name": to, "origin": "manual", "value": value}


def annotation(*results, by=1, **more):
    return {
        "id": 7, "completed_by": by, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "lead_time": 3.2, "created_at": "2026-01-01T00:00:00Z", **more,
    }  # fmt: skip


def task(data, *annotations, number=1):
    return {"id": number, "data": data, "annotations": list(annotations), "predictions": [], "drafts": [],
            "meta": {}, "file_upload": "a.json", "project": 3}  # fmt: skip


def choice(*names, **more):
    return annotation(result("choices", {"choices": list(names)}), **more)


def example(write, *tasks):
    found = read_examples(write("export.json", json.dumps(list(tasks))))
    return found.examples, [(row.reason, row.remedy) for row in found.dropped]


def test_a_class_is_the_answer(write):
    rows, dropped = example(
        write, task({"text": "I like it"}, choice("Positive")), task({"text": "b"}, choice("a", "b"))
    )
    assert [(row.kind, row.prompt[0].content, row.answer) for row in rows] == [
        ("sft", "I like it", "Positive"),
        ("sft", "b", "a, b"),
    ]
    assert not dropped


def test_an_instruction_stands_above_its_input(write):
    rows, _ = example(write, task({"instruction": "Classify.", "input": "fine", "system": "s"}, choice("Good")))
    assert (rows[0].prompt[0].content, rows[0].system) == ("Classify.\nfine", "s")


@pytest.mark.parametrize(
    ("data", "to"),
    [
        ({"prompt": "q", "answer_a": "one", "answer_b": "two"}, ["answer_a", "answer_b"]),
        ({"prompt": "q", "answer_a": "one", "answer_b": "two"}, ["a", "b"]),
        ({"prompt": "q", "first": "one", "second": "two"}, ["a", "b"]),
        ({"question": "q", "left": "one", "right": "two", "more": "x"}, ["a", "b"]),
    ],
)
@pytest.mark.parametrize(("selected", "chosen"), [("left", "one"), ("right", "two")])
def test_a_comparison_is_a_pair(write, data, to, selected, chosen):
    rows, _ = example(write, task(data, annotation(result("pairwise", {"selected": selected}, to=to))))
    assert (rows[0].kind, rows[0].prompt[0].content, rows[0].answers[0].content) == ("preference", "q", chosen)
    assert {answer.content for answer in rows[0].answers} == {"one", "two"}


def test_a_correction_is_an_answer_and_counts_before_a_rating(write):
    both = annotation(result("rating", {"rating": 1}), result("textarea", {"text": ["better"]}))
    rows, _ = example(write, task({"prompt": "q", "answer": "bad"}, both))
    assert (rows[0].kind, rows[0].answer) == ("sft", "better")


@pytest.mark.parametrize(("stars", "wanted"), [(5, True), (4, True), (2, False), (1, False), (3, None)])
def test_stars_judge_an_answer(write, stars, wanted):
    rows, dropped = example(
        write, task({"prompt": "q", "answer": "a"}, annotation(result("rating", {"rating": stars})))
    )
    assert [row.desirable for row in rows] == ([] if wanted is None else [wanted])
    assert len(dropped) == (wanted is None)


def test_several_annotations_must_agree_or_one_be_the_truth(write):
    skipped = choice("No", was_cancelled=True)
    rows, dropped = example(
        write,
        task({"text": "a"}, choice("Yes"), choice("Yes", by=2), skipped),
        task({"text": "b"}, choice("Yes"), choice("No", by=2)),
        task({"text": "c"}, choice("Yes"), choice("No", by=2, ground_truth=True)),
    )
    assert [row.answer for row in rows] == ["Yes", "No"]
    assert dropped[0][0] == "2 annotations of the task differ: 'Yes', 'No'"
    assert "ground truth" in dropped[0][1]


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (task({"text": "a"}), "no annotation yet"),
        (task({"text": "a"}, choice("x", was_cancelled=True)), "was skipped"),
        (task({"text": "a"}, choice()), "no class was chosen"),
        (task({"text": "a"}, annotation()), "holds nothing"),
        (task({"text": "a"}, annotation(result("brushlabels", {}))), "holds brushlabels"),
        (task({"text": "a"}, annotation(result("textarea", {"text": [" "]}))), "correction is blank"),
        (task({"text": "a"}, annotation(result("rating", {"rating": 5}))), "no answer to be rated"),
        (task({"text": "a"}, annotation(result("pairwise", {"selected": "left"}))), "which columns"),
        (task({"text": "a"}, annotation(result("pairwise", {"selected": "both"}))), "selects 'both'"),
        (task({"note": "a"}, choice("x")), "no question (it has: note)"),
        (task({"text": "a"}, annotation(*(result("choices", {"choices": ["x"]}, name) for name in ("answer", "b")))),
         "several questions of one kind: answer, b"),
        (task("a", choice("x")), "'data' of the task is text"),
        ({"data": {}, "annotations": {}}, "'annotations' of the task is an object"),
        (task({"text": "a"}, {"result": "x"}), "'result' of an annotation is text"),
        ({"text": "a", "id": 1, "sentiment": "Good", "annotator": 1, "annotation_id": 2}, "JSON_MIN"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_explained(write, one, reason):
    rows, dropped = example(write, one)
    assert not rows
    assert reason in dropped[0][0]
    assert dropped[0][1]


def test_a_whole_export_is_checked_without_a_note_on_its_own_keys(write):
    path = write(
        "export.json", json.dumps([task({"text": str(n)}, choice("Yes"), number=n) for n in range(9)], indent=1)
    )
    report = check(str(path))
    assert (report.format, report.usable, report.notes, report.ok) == ("label-studio 9", 9, (), True)

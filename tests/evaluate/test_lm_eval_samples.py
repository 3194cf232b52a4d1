"""Samples of lm-evaluation-harness: a recorded file, and the shapes that its other kinds of tasks write."""

import json
from pathlib import Path

import pytest

from nacre.base.errors import InputError
from nacre.base.plugins import Table
from nacre.evaluate.lm_eval import harness
from nacre.evaluate.lm_eval.harness import Request, sample_lines
from nacre.evaluate.lm_eval.samples import read_samples, sampled

RECORDED = Path(__file__).parent / "lm_eval_samples" / "samples_colours_2026-11-21T15-42-47.123456.jsonl"


def chosen(doc_id: int, acc: float, acc_norm: float, **more: object) -> dict[str, object]:
    """A row of a multiple-choice task, as the harness holds it in memory."""
    context = f"Question {doc_id}"
    return {
        "doc_id": doc_id,
        "doc": {"question": context},
        "target": 1,
        "arguments": [(context, " yes"), (context, " no")],
        "resps": [[(-1.0, False)], [(-2.0, False)]],
        "filtered_resps": [(-1.0, False), (-2.0, False)],
        "filter": "none",
        "metrics": ["acc", "acc_norm", "likelihood"],
        "doc_hash": f"{doc_id:064d}",
        "prompt_hash": f"{doc_id + 100:064d}",
        "target_hash": f"{doc_id + 200:064d}",
        "acc": acc,
        "acc_norm": acc_norm,
        "likelihood": (1, [-1.0, -2.0]),
    } | more


def test_a_recorded_file_becomes_scores_per_row():
    task, rows = read_samples(RECORDED)
    assert task == "colours"
    found = sampled(task, rows, where=str(RECORDED))
    assert found.metric == "exact_match"
    assert found.scores == {"exact_match": (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)}
    assert found.rows[0].prompt[0].content == "Human: paint long new sea\nAssistant:"
    assert found.rows[0].answer == "blue"
    assert found.rows[0].origin.extra["doc_hash"] == rows[0]["doc_hash"]
    assert found.answers[:1] == ("blue",)
    assert found.decoding.max_new_tokens == 10


def test_rows_stand_in_the_order_of_their_ids_and_equal_rows_are_equal_whoever_answered():
    _, rows = read_samples(RECORDED)
    turned = [row | {"exact_match": 1.0 - row["exact_match"], "filtered_resps": ["?"]} for row in reversed(rows)]
    one, other = sampled("colours", rows), sampled("colours", turned)
    assert one.rows == other.rows
    assert other.scores["exact_match"] == (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
    reworded = [json.loads(json.dumps(row).replace("Human:", "User:")) for row in rows]
    assert sampled("colours", reworded).rows != one.rows, "another prompt is another question"


def test_a_multiple_choice_task_is_read_by_its_normalised_accuracy_from_memory_and_from_disk():
    rows = [chosen(1, 1.0, 0.0), chosen(0, 0.0, 1.0)]
    held, written = sampled("arc", rows), sampled("arc", json.loads(json.dumps(sample_lines(rows))))
    assert held == written
    assert held.metric == "acc_norm"
    assert held.scores == {"acc": (0.0, 1.0), "acc_norm": (1.0, 0.0)}
    assert held.answers == ()
    assert "likelihood was left out: it gives rows no score from 0 to 1" in held.notes
    assert sampled("arc", rows, metric="acc").metric == "acc"


def test_filters_are_told_apart():
    both = [
        chosen(place, score, score, filter=name)
        for name, scores in (("strict", (0.0, 0.0)), ("flexible", (1.0, 0.0)))
        for place, score in enumerate(scores)
    ]
    first = sampled("gsm", both)
    assert first.metric == "acc_norm,strict"
    assert "filter strict of strict, flexible" in first.notes
    assert sampled("gsm", both, filtered="flexible").scores["acc,flexible"] == (1.0, 0.0)
    assert sampled("gsm", both, metric="acc,flexible").metric == "acc,flexible"
    assert sampled("gsm", both, metric="acc,flexible", filtered="flexible").scores["acc,flexible"] == (1.0, 0.0)
    with pytest.raises(InputError, match="unknown filter 'loose'"):
        sampled("gsm", both, metric="acc,loose")
    with pytest.raises(InputError, match="names the filter flexible, and --filter strict"):
        sampled("gsm", both, metric="acc,flexible", filtered="strict")
    with pytest.raises(InputError, match="unknown filter 'flexibel'") as caught:
        sampled("gsm", both, filtered="flexibel")
    assert "did you mean 'flexible'" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"metric": "akk"}, "unknown metric 'akk'"),
        ({"twice": True}, "a row is there twice"),
        ({"only": ["likelihood"]}, "no metric gives each row a score from 0 to 1"),
    ],
)
def test_what_cannot_be_read_is_said(change, what):
    rows = [chosen(0, 1.0, 1.0), chosen(0 if "twice" in change else 1, 0.0, 0.0)]
    for row in rows if "only" in change else ():
        row["metrics"] = change["only"]
    with pytest.raises(InputError, match=what):
        sampled("arc", rows, metric=change.get("metric"))


@pytest.mark.parametrize(
    ("text", "what"), [("", "no samples"), ("{", "no JSON"), ('{"id": 1}', "no doc_id, doc_hash"), ("[1]", "no doc_id")]
)
def test_files_of_another_kind_are_refused_with_the_line(tmp_path, text, what):
    path = tmp_path / "samples_x.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=what) as caught:
        read_samples(path)
    assert str(path) in caught.value.where
    with pytest.raises(InputError, match="no such file"):
        read_samples(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"doc_id": "a7"}, "doc_id is 'a7', and no whole number"),
        ({"doc_id": None}, "doc_id is None"),
        ({"metrics": None}, "metrics is no list of names"),
        ({"metrics": [3]}, "metrics is no list of names"),
        ({"arguments": None}, "arguments holds no requests"),
    ],
)
def test_rows_of_another_shape_are_refused_with_the_line(tmp_path, change, what):
    rows = json.loads(json.dumps([chosen(0, 1.0, 1.0), chosen(1, 1.0, 1.0) | change]))
    path = tmp_path / "samples_x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=what) as caught:
        read_samples(path)
    assert caught.value.where == f"{path}, line 2"
    path.write_bytes(b'{"doc_id": "\xff"}')
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(path)


def test_without_the_harness_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(
        harness, "PARTS", Table("part", dict.fromkeys(("evaluate", "tasks", "model"), "no_such_package:x"))
    )
    with pytest.raises(InputError, match="not installed") as caught:
        harness.run(Request(("arc",)), None, None, 64)
    assert caught.value.fix == "pip install 'nacre[lm-eval]'"

import json
import re

import pytest

from nacre.base.errors import InputError
from nacre.data.rows import read_rows
from nacre.data.snapshot import MAX_DEV_ROWS, keep_share, split_dev, take_snapshot
from nacre.records import Example, Message


@pytest.fixture
def snap(tmp_path):
    def snap(name="inc", **options):
        return take_snapshot(name, tmp_path / "dataset", tmp_path / "memory", **options)

    return snap


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory"


def ids(memory, rows):
    return [row.content_id for row in read_rows(memory, rows)]


def test_a_dataset_with_dev_rows_is_kept_as_it_is(write, qa, snap, memory):
    write("dataset/inc/train.json", qa(30))
    write("dataset/inc/dev.json", qa(10, start=30))
    found = snap()
    assert (found.task, found.train.rows, found.dev.rows, found.dropped, found.notes) == ("inc", 30, 10, (), ())
    assert len(found.sources) == 2
    assert snap() == found
    assert not (memory / "dropped").exists()


def test_the_data_hash_follows_the_rows_and_not_the_folder(write, qa, snap, tmp_path):
    write("dataset/inc/train.json", qa(30))
    write("other/inc/train.json", qa(30))
    other = take_snapshot("inc", tmp_path / "other", tmp_path / "memory_2")
    assert snap().data_hash == other.data_hash
    write("other/inc/train.json", qa(31))
    assert take_snapshot("inc", tmp_path / "other", tmp_path / "memory_2").data_hash != other.data_hash


def test_dev_rows_are_split_off_by_content_and_stay_there(write, qa, snap, memory):
    write("dataset/inc/train.json", qa(300))
    first = snap()
    assert 15 <= first.dev.rows <= 50
    assert first.train.rows + first.dev.rows == 300
    assert f"{first.dev.rows} of 300 train rows were split off" in first.notes[0]
    write("dataset/inc/train.json", qa(200, start=300) + qa(300)[::-1])
    second = snap()
    assert set(ids(memory, first.dev)) <= set(ids(memory, second.dev))
    assert set(ids(memory, first.train)) <= set(ids(memory, second.train))


def test_few_rows_are_all_trained_on_and_this_is_said(write, qa, snap):
    write("dataset/inc/train.json", qa(19))
    found = snap()
    assert (found.dev, found.train.rows) == (None, 19)
    assert "too few rows to split some off (19 of 20): nothing can be proved" in found.notes[0]
    write("dataset/inc/train.json", qa(20))
    assert snap().dev.rows >= 2
    assert snap(dev_share=0).dev is None


def test_the_split_is_bounded():
    def row(n):
        return Example(
            prompt=(Message(role="user", content=str(n)),), answers=(Message(role="assistant", content="a"),)
        )

    train, dev, said = split_dev([row(n) for n in range(6000)], 0.1)
    assert (len(train), len(dev)) == (6000 - MAX_DEV_ROWS, MAX_DEV_ROWS)
    assert said.endswith("not a share of 0.1: 500 are enough to judge by")
    assert "not a share" not in split_dev([row(n) for n in range(600)], 0.1)[2]
    doubled = [row(n % 40) for n in range(400)]
    train, dev, _ = split_dev(doubled, 0.2)
    assert len({one.content_id for one in dev}) == len(dev)
    assert not {one.content_id for one in dev} & {one.content_id for one in train}


def test_rows_that_ask_the_same_or_come_of_one_row_are_not_divided(write, snap, memory, tmp_path):
    given = [{"instruction": f"question {n // 3}", "output": f"answer {n}"} for n in range(90)]
    write("dataset/inc/train.json", given)
    found = snap(dev_share=0.2)
    train, dev = ({row.prompt[0].content for row in read_rows(memory, side)} for side in (found.train, found.dev))
    assert (len(train & dev), len(train | dev)) == (0, 30)
    assert 3 <= found.dev.rows <= 30
    write("dataset/inc/train.json", [{"instruction": "say something", "output": f"answer {n}"} for n in range(90)])
    assert "ask the same to split some off: nothing can be proved" in snap().notes[0]
    made = [
        {"instruction": f"{how} {n}", "output": "x", "origin_file": "a/b.json", "origin_line": n}
        for n in range(40)
        for how in ("first", "again", "more")
    ]
    write("dataset/inc/train.json", made)
    found = snap(dev_share=0.2)
    train, dev = (
        {row.origin.extra["origin_line"] for row in read_rows(memory, side)} for side in (found.train, found.dev)
    )
    assert (len(train & dev), len(train | dev)) == (0, 40)
    shown = [{"instruction": f"q {n}", "output": "x", "demonstrations": "a/b.json:1"} for n in range(40)]
    write("dataset/inc/train.json", shown)
    assert any("show other rows in their prompts" in note for note in snap().notes)


def test_train_rows_that_are_dev_rows_now_or_before_are_left_out(write, qa, snap, memory):
    write("dataset/one/train.json", qa(30))
    write("dataset/one/dev.json", qa(10, start=30))
    write("dataset/two/train.json", qa(5, start=25) + qa(4, start=36) + qa(20, start=100) + qa(2, start=100))
    write("dataset/two/dev.json", qa(3, start=117))
    one, two = snap("one"), snap("two")
    assert two.train.rows == 5 + 4 + 17 + 2
    two = snap("two", history=[one.dev])
    assert two.train.rows == 5 + 17 + 2
    assert not set(ids(memory, two.train)) & {*ids(memory, one.dev), *ids(memory, two.dev)}
    assert two.notes == (
        "3 train rows equal dev rows of this increment and were left out of training",
        "4 train rows equal dev rows of earlier increments and were left out of training",
        "2 train rows repeat an earlier one exactly; they are trained on as often as they stand there",
    )


def test_no_rows_left_is_an_error(write, qa, snap):
    write("dataset/inc/train.json", qa(3))
    write("dataset/inc/dev.json", qa(5))
    with pytest.raises(InputError, match="no rows are left"):
        snap()


def test_dropped_rows_within_the_budget_are_written_aside_and_noted(write, qa, snap, memory):
    bad = {"instruction": "a", "output": None}
    path = write("dataset/inc/train.json", [*qa(150), bad, *qa(50, start=150)])
    found = snap()
    aside = memory / "dropped" / "inc.jsonl"
    kept = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [(row["file"], row["line"], row["reason"]) for row in kept] == [
        (str(path), 151, "column 'output' is null, not text")
    ]
    assert json.loads(kept[0]["original"]) == bad
    assert f"1 of 201 rows cannot be used (0.5%); they are in {aside} with their reasons" in found.notes
    assert [row.line for row in found.dropped] == [151]
    write("dataset/inc/train.json", qa(200))
    snap()
    assert not aside.exists()


def test_where_rows_may_not_stay_the_text_of_dropped_ones_does_not_stay_either(write, qa, snap, memory):
    lines = [json.dumps(row) for row in qa(40)]
    write("dataset/inc/train.json", "\n".join([*lines, '{"instruction": "a secret", "output": ""}']))
    found = snap(drop_budget=0.5)
    kept = keep_share(found, 0.5, memory)
    assert "a secret" in found.to_json()
    assert [(row.line, row.reason) for row in kept.dropped] == [(row.line, row.reason) for row in found.dropped]
    assert "a secret" not in kept.to_json()
    assert "a secret" not in (memory / "dropped" / "inc.jsonl").read_text()


def test_more_dropped_rows_than_the_budget_stop_everything(write, qa, snap, memory):
    train = write("dataset/inc/train.json", [*qa(90), *({"instruction": "a", "ouput": "b"} for _ in range(7))])
    dev = write("dataset/inc/dev.json", [*qa(2), {"instruction": "a", "output": ""}])
    with pytest.raises(InputError) as caught:
        snap()
    error = caught.value
    assert error.what == "8 of 100 rows cannot be used (8.0%), the budget is 1.0%"
    assert f"{train}, line 91: no column 'output' (did you mean 'ouput'?" in error.where
    assert error.where.count("line") == 3
    assert "and 5 more" in error.where
    assert str(memory / "dropped" / "inc.jsonl") in error.fix
    assert error.fix.endswith("or allow more of them: drop_budget 0.09 (in nacre.yaml: data.drop_budget)")
    assert not (memory / "rows").exists()
    assert str(dev) in (memory / "dropped" / "inc.jsonl").read_text()
    assert snap(drop_budget=0.09).train.rows == 88  # two train rows are dev rows


def test_rows_of_another_stage_are_refused_or_dropped(write, qa, snap):
    write("dataset/pair.json", [{"instruction": "a", "chosen": "b", "rejected": "c"}])
    write("dataset/kto.json", [{"instruction": "a", "output": "b", "label": True}])
    write("dataset/text.txt", "once\nupon\n")
    write("dataset/inc.json", qa(30))
    write("dataset/image.json", [{"instruction": "<image>", "output": "b", "images": ["1.jpg"]}])
    for name, stage, what in [
        ("pair", "sft", "every row is a preference pair, which stage sft does not train"),
        ("kto", "sft", "every row is a judged answer (KTO)"),
        ("text", "sft", "every row is plain text without an answer"),
        ("inc", "pt", "every row is a prompt with an answer"),
        ("image", "dpo", "every row is an example with images, which stage dpo does not train"),
    ]:
        with pytest.raises(InputError) as caught:
            snap(name, stage=stage)
        assert what in caught.value.what
        assert caught.value.fix
    assert snap("text", stage="pt").train.rows == 2
    mixed = snap("inc,text", drop_budget=0.1)
    assert (mixed.task, [row.line for row in mixed.dropped]) == ("inc+text", [1, 2])
    assert "plain text without an answer" in mixed.dropped[0].reason


def test_max_samples_and_gbk_are_noted(write, snap, tmp_path):
    rows = [{"instruction": f"请把数字{n}加一，然后回答", "output": f"答案是{n + 1}"} for n in range(60)]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = write("dataset/inc/train.json", text.encode("gbk"))
    found = snap(max_samples=40)
    assert found.notes[0] == f"{path}: read as GB18030 and converted to UTF-8"
    assert found.notes[1] == "inc: the first 40 of 60 train rows are used (max_samples)"
    assert found.train.rows + found.dev.rows == 40


def test_a_truncated_file_stops_before_training(write, qa, snap):
    whole = json.dumps(qa(40), indent=2)
    write("dataset/inc/train.json", whole[: len(whole) // 2])
    with pytest.raises(InputError) as caught:
        snap()
    assert "cut off" in caught.value.where


@pytest.mark.parametrize("count", [40, 100_000])
def test_more_rows_to_hold_out_than_there_are_is_an_error(write, qa, snap, count):
    write("dataset/inc/train.json", qa(40) + qa(3))
    with pytest.raises(InputError) as caught:
        snap(dev_share=count)
    assert caught.value.what == f"{count} rows cannot be held out of 40 distinct ones: none would be left to train on"
    assert "at most 39" in caught.value.fix
    assert snap(dev_share=39).dev.rows == 39


def test_rows_on_one_line_are_told_apart_by_their_number(write, qa, snap):
    bad = {"instruction": "a", "output": None}
    file = write("dataset/inc/train.json", json.dumps([*qa(16), bad, *qa(3, start=16), bad, {"text": "t"}, 7]))
    with pytest.raises(InputError) as caught:
        snap()
    assert re.findall(r"line 1, row (\d+): ", caught.value.where) == ["17", "21", "23"]
    assert f"{file}, line 1, row 17: column 'output' is null" in caught.value.where
    info = {"two": {"file_name": "two.json", "columns": {"prompt": "q", "response": "a"}}}
    write("dataset/dataset_info.json", json.dumps(info))
    write("dataset/two.json", "[" + json.dumps({"q": 1, "a": "b"}) + ",\n" + json.dumps({"q": "x", "a": "y"}) + "]")
    with pytest.raises(InputError) as caught:
        snap("two")
    assert "two.json, line 1: " in caught.value.where, "a row that stands alone on its line is named by it"


def test_rows_of_another_stage_on_one_line_have_their_numbers_too(write, qa, snap):
    pair = {"instruction": "a", "chosen": "b", "rejected": "c"}
    write("dataset/inc/train.json", json.dumps([pair, *qa(20), {"instruction": "x"}, pair]))
    with pytest.raises(InputError) as caught:
        snap()
    assert "line 1, row 22: " in caught.value.where
    assert re.findall(r"row (\d+): the row is a preference pair", caught.value.where) == ["1", "23"]

import json

import pytest

from nacre.base.errors import InputError
from nacre.cycle.increment.dev_all import extend_dev_all
from nacre.data.all_dev import read_dev_all, write_dev_all
from nacre.data.dataset import load
from nacre.records import Example, Message


def turn(role, content):
    return Message(role=role, content=content)


EXAMPLES = [
    Example(prompt=(turn("user", "a\nb"),), answers=(turn("assistant", "是"),)),
    Example(
        prompt=(turn("user", "q"), turn("assistant", "r"), turn("user", "s")),
        answers=(turn("assistant", "t"),),
        system="sys",
    ),
    Example(
        prompt=(turn("user", "q"), turn("function", "f()"), turn("observation", "1")),
        answers=(turn("assistant", "t"),),
        tools='[{"name": "f"}]',
        system="sys",
    ),
    Example(kind="text", prompt=(turn("user", "once\nupon"),)),
    Example(kind="preference", prompt=(turn("user", "q"),), answers=(turn("assistant", "a"), turn("assistant", "b"))),
    Example(
        kind="preference",
        prompt=(turn("user", "q"), turn("function", "f()"), turn("observation", "1")),
        answers=(turn("assistant", "a"), turn("function", "g()")),
    ),
    Example(kind="kto", prompt=(turn("user", "q"),), answers=(turn("assistant", "a"),), desirable=False),
    Example(kind="kto", prompt=(turn("user", "q"),), answers=(turn("function", "f()"),), desirable=True),
    Example(prompt=(turn("user", "<image>?"),), answers=(turn("assistant", "a cat"),), images=("cat.jpg",)),
]


def test_every_kind_of_row_reads_back_with_the_same_content(tmp_path):
    path = tmp_path / "dev_all.json"
    tasks = {"base": EXAMPLES, "阶段一": EXAMPLES[:2]}
    write_dev_all(path, tasks)
    back = read_dev_all(path)
    assert list(back) == ["base", "阶段一"]
    assert {task: [row.content_id for row in rows] for task, rows in back.items()} == {
        task: [row.content_id for row in rows] for task, rows in tasks.items()
    }
    assert back["阶段一"][0].origin.task == "阶段一"


def test_the_file_is_alpaca_with_a_task(tmp_path):
    path = tmp_path / "dev_all.json"
    write_dev_all(path, {"base": EXAMPLES[:1]})
    assert json.loads(path.read_text()) == {"instruction": "a\nb", "input": "", "output": "是", "task": "base"}
    assert load(str(path), tmp_path, "train").examples[0].content_id == EXAMPLES[0].content_id


def test_a_file_without_tasks_is_one_task_named_after_it(write, qa):
    assert {task: len(rows) for task, rows in read_dev_all(write("my_dev.json", qa(4))).items()} == {"my_dev": 4}


def test_an_unusable_row_stops_the_evaluation(write, qa):
    path = write("dev.json", [*qa(4), {"instruction": "a", "output": None}, {"instruction": "a"}])
    with pytest.raises(InputError) as caught:
        read_dev_all(path)
    assert caught.value.where == f"{path}, line 5"
    assert "and 1 more rows" in caught.value.what


def test_where_there_are_no_dev_rows_no_file_is_written_and_nothing_is_said(tmp_path):
    path = tmp_path / "dev_all.json"
    assert extend_dev_all(tmp_path, {}) == extend_dev_all(tmp_path, {"base": []}) == ""
    assert extend_dev_all(tmp_path / "nowhere", {}) == ""
    assert not path.exists()
    with pytest.raises(InputError, match="no dev rows"):
        write_dev_all(path, {"base": []})
    assert not path.exists()


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_file_holds_nothing_and_takes_what_comes(tmp_path, content):
    path = tmp_path / "dev_all.json"
    path.write_text(content)
    assert extend_dev_all(tmp_path, {}) == ""
    assert path.read_text() == content
    assert "the dev rows of 1 task(s) are in" in extend_dev_all(tmp_path, {"base": EXAMPLES[:2]})
    assert [len(rows) for rows in read_dev_all(path).values()] == [2]


def test_a_task_without_dev_rows_leaves_the_others_as_they_are(tmp_path):
    path = tmp_path / "dev_all.json"
    write_dev_all(path, {"base": EXAMPLES[:2]})
    before = path.read_bytes()
    assert extend_dev_all(tmp_path, {}) == ""
    assert path.read_bytes() == before


def test_a_file_whose_rows_are_all_forgotten_goes(tmp_path):
    path = tmp_path / "dev_all.json"
    write_dev_all(path, {"base": EXAMPLES[:2]})
    assert extend_dev_all(tmp_path, {"base": []}) == f"no dev rows are left, so {path} is gone"
    assert not path.exists()

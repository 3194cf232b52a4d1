"""Easy before hard: by length or a column, with what to say of rows that lack it."""

import json

import pytest

from nacre.base.errors import InputError
from nacre.data.convert import read_examples
from nacre.data.curriculum import by_dataset, column, easy_first, lengths
from nacre.data.rows import read_rows
from nacre.data.snapshot import take_snapshot
from nacre.records import Example, Message, Origin


def row(question: str, task: str = "", file: str = "", **extra: str | float) -> Example:
    return Example(
        prompt=(Message(role="user", content=question),),
        answers=(Message(role="assistant", content="a"),),
        origin=Origin(file=file, task=task, extra=extra),
    )


def test_short_rows_come_first_and_equally_long_ones_by_chance():
    rows = [row("x" * (n % 5) + str(n % 10)) for n in range(50)]
    ordered = easy_first(rows, lengths(rows), seed=0)
    assert [lengths([one])[0] for one in ordered] == sorted(lengths(rows))
    assert sorted(one.content_id for one in ordered) == sorted(one.content_id for one in rows)
    assert ordered == easy_first(rows, lengths(rows), seed=0)
    assert ordered != easy_first(rows, lengths(rows), seed=1)


def test_numbers_sort_as_numbers_and_words_as_text():
    assert column([row("a", level=10), row("b", level="9"), row("c", level=2.5)], "level") == ([10.0, 9.0, 2.5], 0)
    assert column([row("a", level="easy"), row("b", level="b2")], "level") == (["easy", "b2"], 0)


@pytest.mark.parametrize("other", ["n/a", "nan", "hard"])
def test_a_column_of_numbers_and_text_is_refused(other):
    rows = [row("a", level=10), row("b", level="9"), row("c", level=other), row("d")]
    with pytest.raises(InputError, match=f"numbers and text: 1 of 3 are no numbers, such as '{other}'") as refused:
        column(rows, "level")
    assert "numbers alone" in refused.value.fix


@pytest.mark.parametrize("values", [(3, None, 1), ("b", None, "a")])
def test_rows_without_the_column_come_last_and_are_counted(values):
    rows = [row(str(n)) if value is None else row(str(n), level=value) for n, value in enumerate(values)]
    found, missing = column(rows, "level")
    assert missing == 1
    assert [one.prompt[0].content for one in easy_first(rows, found, seed=0)] == ["2", "0", "1"]


def test_a_column_that_no_row_has_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown column 'dificulty'") as refused:
        column([row("a", difficulty=1), row("b")], "dificulty")
    assert "did you mean 'difficulty'?" in refused.value.fix
    with pytest.raises(InputError, match="no row has the column 'level'"):
        column([row("a")], "level")


def test_the_reader_carries_short_values_of_columns_it_does_not_train_on(tmp_path):
    rows = [
        {"instruction": "q", "output": "a", "difficulty": 3, "level": "hard", "why": "x" * 65, "flag": True, "n": None},
        {"instruction": "q", "output": "a"},
    ]
    (tmp_path / "train.json").write_text("".join(json.dumps(one) + "\n" for one in rows))
    first, second = read_examples(tmp_path / "train.json").examples
    assert first.origin.extra == {"difficulty": 3, "level": "hard"}
    assert second.origin.extra == {}
    assert first.content_id == second.content_id, "what is beside a row is no part of what is trained on"
    assert Example.from_json(first.to_json()) == first
    assert "extra" not in second.to_json()


def test_datasets_keep_the_order_in_which_they_appear():
    rows = [row("1", task="b"), row("2", task="a"), row("3", task="b"), row("4", file="/x/c.json")]
    assert {name: len(own) for name, own in by_dataset(rows).items()} == {"b": 2, "a": 1, "c": 1}
    assert list(by_dataset(rows)) == ["b", "a", "c"]


def test_rows_of_an_increment_know_their_dataset_and_columns_after_they_were_kept(tmp_path):
    for name in ("law", "chat"):
        (tmp_path / name).mkdir()
        lines = [{"instruction": f"{name} {n}", "output": "a", "level": n} for n in range(30)]
        (tmp_path / name / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    snapshot = take_snapshot("law,chat", tmp_path, tmp_path / "memory")
    kept = read_rows(tmp_path / "memory", snapshot.train)
    assert list(by_dataset(kept)) == ["law", "chat"]
    assert all(one.prompt[0].content.startswith(name) for name, own in by_dataset(kept).items() for one in own)
    assert all(one.origin.extra == {"level": int(one.prompt[0].content.split()[1])} for one in kept)

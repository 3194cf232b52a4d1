"""A split never leaks: not by equal rows, near duplicates, the same question, a group, or an earlier dev set."""

import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.data.compose.likeness import Likeness, Sets, distinct_pieces, plain
from nacre.data.compose.mixture import Composition, compose
from nacre.data.compose.pieces import Piece, question_of, read_pieces, text_of
from nacre.data.compose.split import split
from nacre.data.compose.split_files import split_files
from nacre.data.convert import read_examples
from nacre.records import Example, Message, Origin


def row(question: str, answer: str, **extra: str) -> Piece:
    return Piece(
        Example(
            prompt=(Message(role="user", content=question),),
            answers=(Message(role="assistant", content=answer),),
            origin=Origin(extra=extra),
        )
    )


def alike(one: str, other: str, near: float) -> bool:
    """By the definition, with nothing clever about it."""
    first, second = ({text[k : k + 5] for k in range(len(text) - 4)} for text in (one, other))
    share = len(first & second) / len(first | second) if first and second else 0.0
    return plain(one) == plain(other) or share >= near


words = st.sampled_from(["the", "cat", "dog", "sat", "under", "mat", "猫坐在垫子上", "狗跑", "red", "blue", "very"])
texts = st.lists(words, min_size=1, max_size=9).map(" ".join)
rows_drawn = st.lists(
    st.builds(row, texts, st.sampled_from(["yes", "no", "a long answer of its own"]), user=st.sampled_from("abcdefgh")),
    min_size=6,
    max_size=40,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    rows=rows_drawn,
    past=st.lists(texts.map(lambda text: row(text, "yes").example), max_size=4),
    near=st.sampled_from([0.5, 0.7, 0.8, 0.95]),
    dev=st.sampled_from([0.2, 0.5, 3]),
    group=st.sampled_from([None, "user"]),
    seed=st.integers(0, 3),
)
def test_a_split_never_leaks_and_loses_nothing(rows, past, near, dev, group, seed):
    try:
        found = split(rows, dev, near=near, group=group, past=past, seed=seed)
    except InputError:  # all of it hangs together, or is earlier dev data
        assume(False)
    assert sorted((*found.train, *found.dev, *found.left_out)) == list(range(len(rows)))
    held = [rows[place].example for place in found.dev]
    for place in found.train:
        one = rows[place].example
        for other in (*held, *past):
            assert not alike(text_of(one), text_of(other), near)
            assert plain(question_of(one)) != plain(question_of(other))
        if group:
            assert rows[place].column("user") not in {rows[dev_place].column("user") for dev_place in found.dev}
    for one in held:
        assert not any(alike(text_of(one), text_of(other), near) for other in past)


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=2, max_size=25), st.sampled_from([0.5, 0.8, 0.9]))
def test_like_rows_are_found_as_comparing_all_pairs_finds_them(found, near):
    likeness, sets, expected = Likeness(found, near), Sets(len(found)), Sets(len(found))
    likeness.join(sets, len(found))
    for one in range(len(found)):
        for other in range(one):
            assert likeness.alike(one, other) == alike(found[one], found[other], near)
            if alike(found[one], found[other], near):
                expected.join(one, other)
    assert [sets.root(k) for k in range(len(found))] == [expected.root(k) for k in range(len(found))]


def test_classes_stand_on_both_sides_in_proportion():
    rows = [
        row(f"{topic} {k * 7919 % 1000:04d} {k * k}", topic)
        for topic, n in (("many", 300), ("few", 30))
        for k in range(n)
    ]
    found = split(rows, 0.1, near=2)
    assert found.classes == {"class few": (27, 3), "class many": (270, 30)}
    assert found.notes == ()
    assert split(rows, 0.1, near=2) == found
    assert split(rows, 0.1, near=2, seed=1).dev != found.dev


def test_a_class_whose_groups_are_large_is_on_both_sides_all_the_same():
    rows = [
        row(f"{k * 7919 % 9973} question", "x", user=f"u{k % 40}", topic="rare" if k % 10 == 9 else "usual")
        for k in range(400)
    ]
    found = split(rows, 0.05, near=2, group="user", by="topic")
    assert min(*found.classes["rare"], *found.classes["usual"]) > 0
    one = [row(f"{k} question", "x", user=f"u{min(k, 9)}", topic="rare" if k > 8 else "usual") for k in range(60)]
    found = split(one, 0.3, near=2, group="user", by="topic")
    assert found.classes["rare"][1] == 0
    assert "dev has no row of rare" in found.notes[-1]


def test_near_duplicates_are_counted_and_kept_together():
    base = "Describe in one sentence what the river that runs past the old town hall looks like in spring"
    rows = [row(f"{base}{end}", "It is brown and fast, and nobody swims in it.") for end in ("", ".", " ?", "!")]
    rows += [row(f"Question number {k}: {chr(97 + k) * 12}", f"answer {k * 31}") for k in range(16)]
    rows.append(row("Question number 3:  DDDDDDDDDDDD", "answer 93"))
    found = split(rows, 4)
    assert found.together == {"equal": 1, "near duplicates": 3, "same question": 0, "made from one row": 0}
    assert len({place in found.dev for place in range(4)}) == 1
    assert (7 in found.dev) == (20 in found.dev)


def test_rows_made_from_one_row_stay_together(write, qa, tmp_path):
    write("one/train.json", qa(60))
    made = {"templates": ["{question} Say it in your own words, and be brief, for I am in a hurry today."], "typos": {}}
    settings = {"sources": [{"name": "one"}], "augment": made | {"typos": {"share": 1.0, "letters": 0.3}}}
    compose(parse(Composition, settings, where="test"), tmp_path, tmp_path / "more" / "train.jsonl")
    report = split_files("more", tmp_path, tmp_path / "inc", 0.2, near=2)
    train, dev = (
        {json.loads(line)["origin_line"] for line in (tmp_path / "inc" / name).read_text().splitlines()}
        for name in ("train.jsonl", "dev.jsonl")
    )
    assert report.together["made from one row"] > 0
    assert (len(train | dev), train & dev) == (60, set())
    settings = {"sources": [{"name": "one"}], "demonstrations": {}}
    compose(parse(Composition, settings, where="test"), tmp_path, tmp_path / "shown.jsonl")
    with pytest.raises(InputError, match="60 rows show other rows in their prompts"):
        split_files(str(tmp_path / "shown.jsonl"), tmp_path, tmp_path / "inc", 0.2)


def test_rows_that_cannot_be_divided_are_refused_with_the_reason():
    rows = [row(f"question {k}", f"answer {k}", user="one") for k in range(10)]
    with pytest.raises(InputError, match="10 of 10 belong together"):
        split(rows, 0.2, near=2, group="user")
    with pytest.raises(InputError, match=r"1.7 is no number of rows"):
        split(rows, 1.7, near=2)
    with pytest.raises(InputError) as error:
        split(rows, 0.2, group="usr")
    assert "did you mean 'user'" in error.value.fix


def test_many_near_duplicates_take_little_time():
    rows = [
        row(f"Please say in a friendly tone what the weather of the coming days is like in district {k}", "Fine.")
        for k in range(3000)
    ]
    with pytest.raises(InputError, match="3000 of 3000 belong together"):
        split(rows, 0.1, near=0.7)
    assert len(distinct_pieces(text_of(rows[0].example))) > 50


def test_files_keep_their_columns_and_say_where_rows_came_from(write, qa, tmp_path):
    given = [one | {"user": f"u{k % 10}", "note": "n" * 100} for k, one in enumerate(qa(60))]
    write("data.json", [*given, {"instruction": "no answer", "output": ""}])
    past = read_examples(write("old.json", given[:1])).examples
    report = split_files(
        str(tmp_path / "data.json"), tmp_path, tmp_path / "inc", 0.2, near=2, columns=("user", None), past=past
    )
    assert (report.rows, report.left_out, report.train + report.dev) == (60, 1, 59)
    assert any("1 rows cannot be used" in note for note in report.notes)
    train, dev, left = (
        [json.loads(line) for line in (tmp_path / "inc" / name).read_text().splitlines()]
        for name in ("train.jsonl", "dev.jsonl", "left_out.jsonl")
    )
    assert {one["user"] for one in train}.isdisjoint(one["user"] for one in dev)
    assert [one["reason"] for one in left] == ["like a dev row of earlier data"]
    assert all(one["note"] == "n" * 100 and one["origin_file"] == f"{tmp_path.name}/data.json" for one in train)
    for one in (*train, *dev, *left):
        assert one["instruction"] == given[one["origin_line"] - 1]["instruction"]
    again = read_pieces("inc", tmp_path)  # a second hand on keeps the first place
    assert [one.example.origin.extra["origin_line"] for one in again.rows] == [one["origin_line"] for one in train]
    assert (tmp_path / "inc" / "split.json").is_file()
    write("other/train.json", qa(5))
    with pytest.raises(InputError, match="no split wrote"):
        split_files(str(tmp_path / "data.json"), tmp_path, tmp_path / "other", 0.2)

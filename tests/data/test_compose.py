"""Mixtures, balance, augmentation and demonstrations: the stated numbers hold, and every row has its origin."""

import json
from collections import Counter

import pytest

from nacre.base.config import parse
from nacre.base.errors import InputError
from nacre.data.compose.balance import Balance, balance
from nacre.data.compose.mixture import Composition, compose
from nacre.data.compose.pieces import Piece, as_record, question_of, read_pieces, text_of
from nacre.data.convert import read_examples


@pytest.fixture
def mixed(tmp_path, write):
    """Compose with these settings; returns the report and the rows."""

    def mixed(**settings):
        found = compose(parse(Composition, settings, where="test"), tmp_path, tmp_path / "out.jsonl")
        return found, [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    return mixed


def words(count, label, start=0):
    """Rows no two of which are alike."""
    return [
        {"instruction": f"{label} {k * 7919 % 9973} {'abcdefghij'[k % 10] * (k // 10 + 3)}", "output": label}
        for k in range(start, start + count)
    ]


@pytest.fixture
def two(write):
    write("one/train.json", words(60, "first"))
    write("two/train.json", words(40, "second"))
    return [{"name": "one", "weight": 3}, {"name": "two", "weight": 1}]


def test_the_ratio_holds_to_the_row_and_in_every_part(two, mixed):
    found, rows = mixed(sources=two)
    assert found.rows == len(rows) == 80
    assert found.sources == {"one": 60, "two": 20}
    for count in range(1, 81):
        assert abs(sum(row["source"] == "one" for row in rows[:count]) - 0.75 * count) < 1
    assert mixed(sources=two) == (found, rows)
    assert mixed(sources=two, limit=10)[0].sources == {"one": 8, "two": 2}


def test_what_cannot_be_reached_is_said_and_repeating_is_asked_for(two, mixed):
    found, _ = mixed(sources=two, limit=200)
    assert (found.rows, "80 rows, not 200: one has no more at repeats 1" in found.notes) == (80, True)
    found, rows = mixed(sources=two, limit=100, repeats=2)
    assert found.sources == {"one": 75, "two": 25}
    assert sum(row.get("repeat") == 2 for row in rows) == 15
    assert max(Counter(row["instruction"] for row in rows).values()) == 2


def test_dev_rows_and_their_like_are_left_out(two, mixed, write):
    write("one/dev.json", words(1, "first"))
    write("held.json", [{"instruction": words(1, "second", 7)[0]["instruction"], "output": "another answer"}])
    found, rows = mixed(sources=two, dev=["held.json"])
    asked = {row["instruction"] for row in rows}
    assert words(1, "first")[0]["instruction"] not in asked
    assert words(1, "second", 7)[0]["instruction"] not in asked
    assert "one: 1 of 60 rows are like a dev row and were left out" in found.notes


def test_each_row_says_where_it_stood_and_keeps_its_columns(mixed, write, tmp_path):
    given = [row | {"user": "anna"} for row in words(20, "x")]
    write("one/train.json", given)
    _, rows = mixed(sources=[{"name": "one"}], curriculum="length")
    for row in rows:
        assert {key: row[key] for key in ("instruction", "output", "user")} == given[row["origin_line"] - 1]
        assert row["origin_file"] == "one/train.json"
    assert [len(row["instruction"]) for row in rows] == sorted(len(row["instruction"]) for row in rows)
    back = read_examples(tmp_path / "out.jsonl").examples
    assert all(row.origin.extra["source"] == "one" and row.origin.extra["user"] == "anna" for row in back)


def test_written_rows_say_what_they_said(write, tmp_path):
    rows = [
        {"messages": [{"role": r, "content": c} for r, c in (("system", "s"), ("user", "q"), ("assistant", "a"))]},
        {"instruction": "p", "chosen": "yes", "rejected": "no"},
        {"instruction": "q", "output": "fine", "label": True},
        {"prompt": "p", "answer": "b"},
        {"text": "plain"},
    ]
    write("all.jsonl", rows)
    pieces = read_pieces(str(tmp_path / "all.jsonl"), tmp_path).rows
    for kind in (pieces, [Piece(piece.example) for piece in pieces]):  # as it stood, and written anew
        back = read_examples(write("again.jsonl", [as_record(piece) for piece in kind])).examples
        assert [row.content_id for row in back] == [piece.example.content_id for piece in pieces]


@pytest.mark.parametrize(("how", "sizes"), [("under", {"few": 10, "many": 30}), ("over", {"few": 34, "many": 100})])
def test_balance_reaches_the_stated_ratio(how, sizes, write, tmp_path):
    write("d.json", [*words(100, "many"), *words(10, "few"), {"instruction": "odd", "output": "no class at all"}])
    pieces = read_pieces(str(tmp_path / "d.json"), tmp_path).rows
    rows, notes = balance(pieces, Balance(how=how), seed=0)
    counts = Counter(row.example.answer for row in rows)
    assert {name: counts[name] for name in sizes} == sizes
    assert counts["no class at all"] == 1
    assert "was 10.00 to 1 and is 3.00 to 1" in notes[0] or "is 2.94 to 1" in notes[0]
    copies = Counter(row.example.origin.extra.get("copy", 1) for row in rows)
    assert copies == ({1: 41} if how == "under" else {1: 111, 2: 10, 3: 10, 4: 4})
    assert balance(pieces, Balance(how="over", max_repeats=2), seed=0)[1][1] == (
        "balance: 3 to 1 was not reached: max_repeats is 2"
    )


def test_templates_and_typos_add_rows_with_the_same_answers(mixed, write):
    write("one/train.json", [row | {"town": "Ulm"} if k else row for k, row in enumerate(words(20, "x"))])
    found, rows = mixed(
        sources=[{"name": "one"}],
        augment={"templates": ["In {town}: {question}"], "typos": {"share": 1.0, "letters": 0.1}},
    )
    kinds = Counter(row.get("augmented", "") for row in rows)
    assert kinds == {"": 20, "template 1": 19, "typos": 20}
    assert {row["output"] for row in rows} == {"x"}
    by_line = {row["origin_line"]: row["instruction"] for row in rows if "augmented" not in row}
    for row in rows:
        if row.get("augmented") == "template 1":
            assert row["instruction"] == f"In Ulm: {by_line[row['origin_line']]}"
    assert "templates: 1 times a row had no column 'town'" in found.notes
    with pytest.raises(InputError, match="augment"):
        mixed(sources=[{"name": "one"}], augment={"templates": ["no place"]})


@pytest.mark.parametrize("how", ["nearest", "fixed"])
def test_demonstrations_are_train_rows_and_never_the_row_itself(how, mixed, write):
    write(
        "one/train.json",
        [{"instruction": f"{n} plus {m}", "output": f"is {n + m}!"} for n in range(6) for m in range(5)],
    )
    write("one/dev.json", [{"instruction": "3 plus 3", "output": "is 6!"}])
    write("two/train.json", words(20, "other"))
    found, rows = mixed(
        sources=[{"name": "one"}, {"name": "two"}],
        near=2,
        demonstrations={"count": 2, "how": how, "template": "Q {question} A {answer}"},
    )
    for row in rows:
        *shown, own = row["instruction"].split("\n\n")
        assert len(shown) == 2
        assert not any(f"Q {own} A" in one for one in shown)
        assert all(("plus" in one) == ("plus" in own) for one in shown)  # of the same task
        assert "3 plus 3" not in row["instruction"]
        assert len(row["demonstrations"].split(", ")) == 2
    assert found.notes[-2].startswith(f"demonstrations: {len(rows)} of {len(rows)} prompts")


def test_dev_rows_are_asked_as_the_train_rows_are(tmp_path, write, mixed):
    write("one/train.json", words(20, "x"))
    write("one/dev.json", words(4, "x", 40))
    settings = parse(Composition, {"sources": [{"name": "one"}], "demonstrations": {"count": 2}}, where="test")
    found = compose(settings, tmp_path, tmp_path / "few" / "train.jsonl", dev_out=tmp_path / "few" / "dev.jsonl")
    assert (found.rows, found.dev) == (20, 4)
    train, dev = (read_examples(tmp_path / "few" / f"{side}.jsonl").examples for side in ("train", "dev"))
    asked = {row["instruction"] for row in words(20, "x")}
    for row, given in zip(dev, words(4, "x", 40), strict=True):
        *shown, own = row.prompt[0].content.split("\n\n")
        assert (own, row.answer, row.origin.extra["origin_file"]) == (given["instruction"], "x", "one/dev.json")
        assert {one.removesuffix("\nx") for one in shown} < asked
        assert not any(own in other.prompt[0].content for other in train)
    assert any("--dev-out" in note for note in mixed(sources=[{"name": "one"}], demonstrations={})[0].notes)
    write("two/train.json", words(20, "y"))
    with pytest.raises(InputError, match="no source has dev rows"):
        compose(
            parse(Composition, {"sources": [{"name": "two"}]}, where="test"),
            tmp_path,
            tmp_path / "out.jsonl",
            dev_out=tmp_path / "dev.jsonl",
        )


def test_a_row_made_from_another_does_not_show_that_one(mixed, write):
    write("one/train.json", words(20, "x"))
    _, rows = mixed(
        sources=[{"name": "one"}],
        augment={"templates": ["Please: {question}"], "typos": {"share": 1.0}},
        demonstrations={"count": 2},
    )
    assert len(rows) == 60
    for row in rows:
        assert f"one/train.json:{row['origin_line']}" not in row["demonstrations"].split(", ")


def test_nearest_demonstrations_are_the_nearest(mixed, write):
    write(
        "one/train.json",
        [{"instruction": f"{a} {b}", "output": "y"} for a in ("wolf wolf wolf", "plane plane plane") for b in "abcdef"],
    )
    _, rows = mixed(sources=[{"name": "one"}], near=2, demonstrations={"count": 3})
    assert all(("wolf" in row["instruction"]) != ("plane" in row["instruction"]) for row in rows)


def test_what_is_wrong_with_the_settings_is_said(mixed, two):
    for wrong, said in (
        ({"sources": [{"name": "oen"}]}, "did you mean 'one'"),
        ({"sources": two, "balence": {}}, "did you mean 'balance'"),
        ({"sources": two, "curriculum": "hard"}, "none, length or column:NAME"),
        ({"sources": [*two, two[0]]}, "weights added up"),
        ({"sources": two, "balance": {"by": "topic"}}, "Known"),
        ({"sources": two, "balance": {}}, "leave balance out"),
        ({"sources": two, "demonstrations": {"template": "Q {question}"}}, "must hold {answer}"),
    ):
        with pytest.raises(InputError) as error:
            mixed(**wrong)
        assert said in str(error.value)


def test_questions_and_texts_hold_the_system_text(write, tmp_path):
    write("d.jsonl", [{"system": "be kind", "instruction": "q", "output": "a"}])
    row = read_pieces(str(tmp_path / "d.jsonl"), tmp_path).rows[0].example
    assert (question_of(row), text_of(row)) == ("be kind\nq", "be kind\nq\na")

"""TRL's conversational rows, OpenAI's content parts, and judgements however they are written."""

import json

import pytest

from nacre.data.clean.chain import choose
from nacre.data.cleaning import clean_files
from nacre.data.convert import read_examples
from nacre.data.formats import formats
from nacre.data.formats.fields import Unusable


def ask(text="hi", role="user"):
    return {"role": role, "content": text}


def reply(text="hello"):
    return ask(text, "assistant")


def read(record):
    (name,) = [name for name in formats.names() if formats.load(name).looks_like(record)]
    return formats.load(name)().read(record)


def said(example):
    return [(turn.role, turn.content) for turn in (*example.prompt, *example.answers)]


TURNS = [("user", "hi"), ("assistant", "good"), ("assistant", "bad")]
CHOSEN, REJECTED = reply("good"), reply("bad")


def test_parts_of_text_are_read_as_one_text():
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    assert said(read({"messages": [ask(parts), reply([{"type": "text", "text": "A cat."}])]})) == [
        ("user", "What is this?"),
        ("assistant", "A cat."),
    ]
    pair = read({"messages": [ask(parts)], "chosen": reply([{"type": "text", "text": "a"}]), "rejected": reply("b")})
    assert [answer.content for answer in pair.answers] == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "data:…"}}, "of type 'image_url'"),
        ({"type": "input_audio", "input_audio": {}}, "of type 'input_audio'"),
        ({"type": "text", "text": None}, "without text"),
        ({"text": "no type"}, "without text"),
    ],
)
def test_a_part_that_is_no_text_is_one_reason(part, kind):
    with pytest.raises(Unusable) as caught:
        read({"messages": [ask([{"type": "text", "text": "Look:"}, part]), reply()]})
    assert caught.value.reason == f"message 1 has a part {kind}"
    assert "trains text only" in caught.value.remedy


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": [ask()], "chosen": [CHOSEN], "rejected": [REJECTED]},
        {"prompt": [ask()], "chosen": CHOSEN, "rejected": REJECTED},
        {"chosen": [ask(), CHOSEN], "rejected": [ask(), REJECTED]},
        {"prompt": "hi", "chosen": [ask(), CHOSEN], "rejected": [ask(), REJECTED]},
        {"prompt": "hi", "chosen": [CHOSEN], "rejected": [REJECTED]},
        {"prompt": "hi", "chosen": [ask(), CHOSEN], "rejected": [ask(), REJECTED], "messages": [ask(), CHOSEN]},
        {"chosen": [ask(), CHOSEN], "rejected": [ask(), REJECTED], "messages": [ask(), CHOSEN]},
        {"messages": [ask()], "chosen": [CHOSEN], "rejected": [REJECTED]},
        {"prompt": [ask()], "chosen": [ask(), CHOSEN], "rejected": [ask(), REJECTED]},
        {
            "chosen": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "good"}],
            "rejected": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "bad"}],
        },
    ],
)
def test_pairs_of_messages_with_the_prompt_beside_or_in_them(record):
    example = read(record)
    assert (example.kind, said(example)) == ("preference", TURNS)


def test_a_longer_dialogue_is_the_prompt_of_a_pair():
    before = [ask("be kind", "system"), ask(), reply(), ask("again")]
    example = read({"chosen": [*before, CHOSEN], "rejected": [*before, REJECTED]})
    assert (example.system, [turn.content for turn in example.prompt]) == ("be kind", ["hi", "hello", "again"])
    after = read(
        {"prompt": [ask()], "chosen": [reply(), ask("again"), CHOSEN], "rejected": [reply(), ask("again"), REJECTED]}
    )
    assert after.prompt == example.prompt
    same = read({"chosen": [ask(), CHOSEN], "rejected": [ask(), CHOSEN]})
    assert [answer.content for answer in same.answers] == ["good", "good"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"chosen": [ask(), CHOSEN, ask(), CHOSEN], "rejected": [ask(), REJECTED]}, "more than their last message"),
        ({"chosen": [CHOSEN], "rejected": [REJECTED]}, "begin with no question"),
        ({"chosen": [ask(), CHOSEN]}, "no column 'rejected'"),
        ({"chosen": [ask(), CHOSEN], "rejected": []}, "'rejected' is an empty list"),
        ({"chosen": [ask(), CHOSEN], "rejected": None}, "'rejected' is null"),
        ({"chosen": [ask()], "rejected": [ask("ho")], "prompt": "x"}, "'chosen' is no answer of the assistant"),
        ({"prompt": [ask()], "completion": [ask()]}, "turn 2 is by user"),
        ({"prompt": [ask()], "completion": [reply(" ")]}, "the answer is blank"),
        ({"prompt": [ask()], "input": "x", "completion": [reply()]}, "'input' stands beside"),
        ({"prompt": [ask()]}, "no column 'answer'"),
    ],
)
def test_faults_of_rows_of_messages_are_named(record, reason):
    with pytest.raises(Unusable) as caught:
        read(record)
    assert reason in caught.value.reason


def test_prompt_and_completion_are_messages():
    example = read({"prompt": [ask("s", "system"), ask()], "completion": [reply()], "tools": [{"name": "f"}]})
    assert (example.kind, example.system, said(example)) == ("sft", "s", [("user", "hi"), ("assistant", "hello")])
    assert json.loads(example.tools) == [{"name": "f"}]
    assert said(read({"prompt": "hi", "completion": [reply()]})) == said(example)


@pytest.mark.parametrize(("label", "wanted"), [(True, True), (False, False), (1, True), (0, False), (1.0, True)])
def test_a_completion_of_messages_is_judged(label, wanted):
    example = read({"prompt": [ask()], "completion": [reply()], "label": label})
    assert (example.kind, example.desirable, said(example)) == ("kto", wanted, [("user", "hi"), ("assistant", "hello")])


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
@pytest.mark.parametrize(("yes", "no"), [(1, 0), ("true", "false"), ("True", "FALSE"), ("1", "0"), (True, False)])
def test_judgements_are_read_however_they_are_written(write, name, yes, no):
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "label": yes if n % 2 else no} for n in range(4)]
    table = "prompt,completion,label\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    found = read_examples(write(name, rows if name.endswith("jsonl") else table))
    assert [one.desirable for one in found.examples] == [False, True, False, True]
    assert {one.kind for one in found.examples} == {"kto"}
    tagged = read({"instruction": "q", "output": "a", "kto_tag": no})
    assert (tagged.kind, tagged.desirable) == ("kto", False)


def test_a_label_of_0_or_1_elsewhere_is_a_class_and_that_is_said(write):
    rows = [{"instruction": f"q{n}", "output": "a", "label": n % 2} for n in range(4)]
    found = read_examples(write("rows.jsonl", rows))
    assert {one.kind for one in found.examples} == {"sft"}
    assert [one.origin.extra["label"] for one in found.examples] == [0, 1, 0, 1]
    assert any("4 rows have a label of 0 or 1" in note for note in found.notes)
    more = read_examples(write("more.jsonl", [{**row, "label": 2 + row["label"]} for row in rows]))
    assert not any("label of 0 or 1" in note for note in more.notes)


def test_what_messages_say_is_cleaned_wherever_it_stands(write, tmp_path):
    dirty, clean = "write to a.b@example.org", "write to [EMAIL]"
    rows = [
        {"prompt": [ask(dirty)], "completion": [reply(dirty)], "label": 1},
        {"prompt": [ask(dirty)], "chosen": [reply(dirty)], "rejected": [reply("no")]},
        {"messages": [ask([{"type": "text", "text": dirty}]), reply(dirty)]},
    ]
    clean_files([write("rows.jsonl", rows)], tmp_path / "out.jsonl", choose(["pii"]))
    assert (tmp_path / "out.jsonl").read_text() == "".join(
        json.dumps(row, separators=(",", ":")).replace(dirty, clean) + "\n" for row in rows
    )


def test_rows_judged_differently_are_no_duplicates(write, tmp_path):
    rows = [{"prompt": "q", "completion": "a", "label": label} for label in (1, 0, 1)]
    report = clean_files([write("rows.jsonl", rows)], tmp_path / "out.jsonl", choose(["duplicates"]))
    assert (report.kept, report.dropped) == (2, 1)

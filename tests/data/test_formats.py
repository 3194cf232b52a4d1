import json

import pytest

from nacre.data.convert import read_examples
from nacre.data.formats import formats
from nacre.data.formats.fields import Unusable
from nacre.records import Message

USER, BOT = {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}
ASK, REPLY = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
SAMPLES = {
    "alpaca": [
        {"instruction": "hi", "input": "", "output": "hello"},
        {"instruction": "hi", "output": "hello", "history": [["a", "b"]], "system": "be kind"},
        {"instruction": "hi", "ouput": "hello"},
        {"instruction": "is it?", "output": "yes", "label": 3},
    ],
    "messages": [{"conversations": [USER, BOT]}, {"messages": [ASK, REPLY], "tools": "[]"}, {"messages": []}],
    "text": [{"text": "once upon a time"}, {"text": "x", "url": "y"}],
    "preference": [
        {"instruction": "hi", "input": "", "chosen": "hello", "rejected": "go away"},
        {"conversations": [USER], "chosen": BOT, "rejected": BOT},
        {"messages": [ASK], "chosen": REPLY, "rejected": REPLY},
        {"instruction": "hi", "chosen": "hello"},
        {"prompt": "hi", "chosen": "hello", "rejected": "go away"},
        {"prompt": [ASK], "chosen": [REPLY], "rejected": [REPLY]},
        {"chosen": [ASK, REPLY], "rejected": [ASK, REPLY], "messages": [ASK, REPLY]},
    ],
    "label-studio": [
        {
            "id": 1,
            "data": {"text": "hi"},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": ["a"]}}]}],
        },
        {"id": 1, "data": {"text": "hi", "instruction": "x", "label": True}, "annotations": [], "predictions": []},
        {"id": 1, "text": "hi", "sentiment": "good", "annotator": 1, "annotation_id": 5, "lead_time": 2.0},
    ],
    "prompt": [
        {"prompt": "hi", "answer": "hello"},
        {"prompt": "hi", "completion": "hello", "text": "beside"},
        {"prompt": "hi", "output": "hello"},
        {"prompt": "hi", "label": 3, "response": "hello"},
        {"prompt": "hi", "label": 1, "response": "hello"},
        {"prompt": [ASK], "completion": [REPLY]},
        {"prompt": "hi"},
    ],
    "kto": [
        {"instruction": "hi", "output": "hello", "label": True},
        {"instruction": "hi", "output": "hello", "kto_tag": False},
        {"messages": [ASK, REPLY], "label": False},
        {"conversations": [USER, BOT], "label": True},
        {"prompt": "hi", "completion": "hello", "label": False},
        {"prompt": "hi", "completion": "hello", "label": 0},
        {"prompt": [ASK], "completion": [REPLY], "label": 1},
        {"instruction": "hi", "output": "hello", "label": "True"},
    ],
}


def read(record):
    claims = [name for name in formats.names() if formats.load(name).looks_like(record)]
    return formats.load(claims[0])().read(record)


@pytest.mark.parametrize("name", formats.names())
def test_every_format_claims_its_own_rows_and_no_other(name):
    form = formats.load(name)
    for kind, records in SAMPLES.items():
        for record in records:
            assert form.looks_like(record) == (kind == name), record
    assert form().used(SAMPLES[name][0]) >= SAMPLES[name][0].keys()
    assert form().read(SAMPLES[name][0]).prompt[-1].content


@pytest.mark.parametrize("record", [{}, {"question": "a", "answer": "b"}, {"label": True}])
def test_no_format_claims_strange_rows(record):
    assert not any(formats.load(name).looks_like(record) for name in formats.names())


def test_alpaca_joins_instruction_and_input_after_the_history():
    example = read({"instruction": "add", "input": "1+1", "output": "2", "history": [["a", "b"]], "system": "s"})
    assert [(turn.role, turn.content) for turn in example.prompt] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "add\n1+1"),
    ]
    assert (example.answer, example.system, example.kind) == ("2", "s", "sft")


def test_the_last_message_is_the_answer_and_the_system_message_stands_beside():
    example = read(
        {"messages": [{"role": "system", "content": "s"}, ASK, REPLY, ASK, {"role": "assistant", "content": "bye"}]}
    )
    assert (len(example.prompt), example.answer, example.system) == (3, "bye", "s")


def test_tool_calls_and_results_of_openai_messages_are_folded():
    results = [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    example = read({"messages": [ASK, CALL, *results, REPLY], "tools": [{"name": "f"}]})
    assert [turn.role for turn in example.prompt] == ["user", "function", "observation"]
    assert json.loads(example.prompt[1].content) == [{"name": "f", "arguments": "{}"}]
    assert example.prompt[2].content == "1\n</tool_response>\n<tool_response>\n2"
    assert json.loads(example.tools) == [{"name": "f"}]


def test_pairs_and_judgements():
    pair = read(SAMPLES["preference"][0])
    assert (pair.kind, [answer.content for answer in pair.answers]) == ("preference", ["hello", "go away"])
    assert read(SAMPLES["preference"][1]).answers == (Message(role="assistant", content="hello"),) * 2
    judged = read(SAMPLES["kto"][2])
    assert (judged.kind, judged.desirable, judged.answer) == ("kto", False, "hello")


@pytest.mark.parametrize("answer", ["answer", "completion", "response", "output"])
def test_a_prompt_has_its_answer_under_several_names(answer):
    example = read({"prompt": "hi", answer: "hello"})
    assert (example.kind, example.prompt[0].content, example.answer) == ("sft", "hi", "hello")
    judged = read({"prompt": "hi", answer: "hello", "label": False})
    assert (judged.kind, judged.desirable, judged.answer) == ("kto", False, "hello")
    assert read({"prompt": "hi", "chosen": "a", "rejected": "b"}).prompt[0].content == "hi"


def test_plain_text_has_no_answer():
    example = read({"text": "once upon a time"})
    assert (example.kind, example.prompt[0].content, example.answers) == ("text", "once upon a time", ())


def turns(*roles):
    return [{"role": role, "content": "x"} for role in roles]


@pytest.mark.parametrize(
    ("record", "reason", "remedy"),
    [
        ({"instruction": "a", "ouput": "b"}, "no column 'output'", "did you mean 'ouput'?"),
        ({"instrution": "a", "output": "b"}, "no column 'instruction'", "did you mean 'instrution'?"),
        ({"instruction": "a", "output": None}, "column 'output' is null", "text in double quotes"),
        ({"instruction": "a", "output": ""}, "column 'output' is blank", "delete the row"),
        ({"instruction": "a", "output": " \n\t"}, "column 'output' is blank", "delete the row"),
        ({"instruction": "a", "output": 5}, "column 'output' is a number, not text", "double quotes"),
        ({"instruction": "a", "output": True}, "column 'output' is true or false", "double quotes"),
        ({"instruction": ["a"], "output": "b"}, "column 'instruction' is a list", "double quotes"),
        ({"instruction": "a", "input": {"b": 1}, "output": "b"}, "column 'input' is an object", "double quotes"),
        ({"instruction": " ", "input": "", "output": "b"}, "the prompt is blank", "delete the row"),
        ({"instruction": "a", "output": "b", "history": [["q"]]}, "not a list of [question, answer]", "["),
        ({"instruction": "a", "output": "b", "system": 3}, "column 'system' is a number", "double quotes"),
        ({"instruction": "<image>", "output": "b", "images": ["1", "2"]}, "2 images for 1 <image>", "each path"),
        ({"instruction": "a", "output": "b", "images": [1]}, "not a list of paths", "path"),
        ({"messages": []}, "an empty list", "write ["),
        ({"messages": "hi"}, "is text, not a list", "write ["),
        ({"messages": ["hi"]}, "message 1 is text, not an object", "write {"),
        ({"messages": [{"role": "user"}]}, "message 1 has no 'role' or no 'content'", '"content": "…"'),
        ({"messages": [ASK, {"role": "assistant", "content": None}]}, "message 2: 'content' is null", "write {"),
        ({"messages": [ASK, {"role": "assistant", "content": " "}]}, "the answer is blank", "delete"),
        ({"messages": turns("user", "bot")}, "unknown role 'bot'", "known: user, assistant"),
        ({"messages": turns("assistant", "user")}, "turn 1 is by assistant, where user or tool must", "alternate"),
        ({"messages": turns("user", "user")}, "turn 2 is by user, where assistant or function_call", "alternate"),
        ({"messages": turns("user", "assistant", "user")}, "ends with a question", "add the answer"),
        ({"messages": turns("system")}, "no messages but the system text", "add"),
        ({"messages": [ASK, {"role": "assistant", "tool_calls": [3]}]}, "not a list of calls", "function"),
        ({"conversations": [BOT, USER]}, "turn 1 is by gpt, where human or observation", "alternate"),
        ({"instruction": "a", "chosen": "b"}, "no column 'rejected'", "add it"),
        ({"instruction": "a", "chosen": "b", "rejected": ""}, "column 'rejected' is blank", "delete the row"),
        ({"messages": [ASK], "chosen": "b", "rejected": REPLY}, "column 'chosen' is text, not a message", "assistant"),
        ({"messages": [ASK], "chosen": ASK, "rejected": REPLY}, "'chosen' is no answer", "must be assistant"),
        ({"messages": [ASK, REPLY], "chosen": REPLY, "rejected": REPLY}, "ends with an answer", "chosen"),
        ({"instruction": "a", "output": "b", "kto_tag": "yes"}, "'kto_tag' is text", "write true"),
        ({"text": ""}, "the prompt is blank (column 'text')", "delete the row"),
        ({"text": 3}, "column 'text' is a number", "double quotes"),
    ],
)
def test_faults_are_named_with_what_would_mend_them(record, reason, remedy):
    with pytest.raises(Unusable) as caught:
        read(record)
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy


def test_a_file_of_several_formats_is_read_and_counted_by_format(write):
    records = [record for kind in ("alpaca", "messages", "text") for record in SAMPLES[kind][:2]]
    found = read_examples(
        write("mixed.jsonl", [*records, {"question": "a", "answr": "b"}, {}, {"0": {"a": 1}}]), task="t"
    )
    assert found.formats == {"alpaca": 2, "messages": 2, "text": 2}
    assert any("several formats" in note for note in found.notes)
    assert any("not used: url (1 rows)" in note for note in found.notes)
    assert [(row.line, row.reason) for row in found.dropped] == [
        (7, "unknown columns: question, answr"),
        (8, "the row is an empty object"),
        (9, "the row is an object of objects"),
    ]
    assert [example.origin.line for example in found.examples] == [1, 2, 3, 4, 5, 6]
    assert {example.origin.task for example in found.examples} == {"t"}


def test_unknown_columns_name_the_nearest_known_ones(write):
    found = read_examples(write("rows.jsonl", [{"instructon": "a", "outputs": "b"}, {"Instruction": "a"}]))
    assert found.dropped[0].remedy == "rename 'instructon' to 'instruction', 'outputs' to 'output'"
    assert found.dropped[1].remedy == "rename 'Instruction' to 'instruction'"

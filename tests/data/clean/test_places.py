"""Which texts of a row are cleaned, and what is kept of a row that cannot be."""

import base64
import json

from nacre.data.clean.chain import choose
from nacre.data.clean.places import Places
from nacre.data.cleaning import clean_files
from nacre.data.dataset_info import Entry

PHONE = "13800138000"


def cleaned(path, out):
    clean_files([path], out, choose(["pii"]))
    return out.read_text(encoding="utf-8")


def test_the_arguments_of_a_tool_call_are_cleaned(write, tmp_path):
    calls = [
        {"type": "function", "function": {"name": "dial", "arguments": json.dumps({"phone": PHONE})}},
        {"type": "function", "function": {"name": "dial", "arguments": {"phones": [PHONE, {"other": PHONE}]}}},
    ]
    turns = [{"role": "user", "content": "call me"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    found = json.loads(cleaned(write("in.jsonl", [{"messages": turns}]), tmp_path / "out.jsonl"))
    one, two = (call["function"] for call in found["messages"][1]["tool_calls"])
    assert json.loads(one["arguments"]) == {"phone": "[PHONE]"}
    assert two == {"name": "dial", "arguments": {"phones": ["[PHONE]", {"other": "[PHONE]"}]}}


def test_a_label_studio_export_is_cleaned_in_tasks_and_answers(write, tmp_path):
    corrected = {"type": "textarea", "from_name": "a", "to_name": "b", "value": {"text": [f"ring {PHONE}"]}}
    chosen = {"type": "choices", "from_name": "c", "to_name": "b", "value": {"choices": ["yes"]}}
    row = {
        "id": 1,
        "data": {"question": f"call {PHONE}", "turns": [{"text": PHONE}]},
        "annotations": [{"completed_by": 1, "result": [corrected, chosen]}],
    }
    text = cleaned(write("in.json", json.dumps([row])), tmp_path / "out.json")
    assert PHONE not in text
    [found] = json.loads(text)
    assert found["data"] == {"question": "call [PHONE]", "turns": [{"text": "[PHONE]"}]}
    assert found["annotations"][0]["result"][1] == chosen
    assert found["annotations"][0]["result"][0] == corrected | {"value": {"text": ["ring [PHONE]"]}}


def test_the_order_of_the_columns_does_not_matter():
    rows = [{"instruction": "q", "output": "a", "input": "i"}, {"output": "a", "input": "i", "instruction": "q"}]
    texts = [[place.holder[place.key] for place in Places().find(row)] for row in rows]
    assert texts[0] == texts[1]
    assert sorted(texts[0]) == ["a", "i", "q"]


def test_rows_that_cannot_be_read_keep_their_bytes(write, tmp_path):
    bad = b'{"instruction":"a\xff\xfeb","output":"c"}'
    long = b'{"instruction":"q","output":"' + b"x" * 6000 + b'"} more'
    path = write("in.jsonl", b"\n".join([bad, long, b'{"foo": 1}', b'{"instruction":"q","output":"a"}']))
    clean_files([path], tmp_path / "out.jsonl", choose())
    aside = [json.loads(line) for line in (tmp_path / "out.jsonl.dropped.jsonl").read_text().splitlines()]
    assert [base64.b64decode(row.get("original_base64", "")) for row in aside] == [bad, long, b""]
    assert aside[2]["original"] == '{"foo": 1}'
    assert all(row["remedy"] for row in aside)


def test_rows_of_an_unknown_format_in_another_encoding_keep_their_bytes(write, tmp_path):
    row = '{"问题的名字": "没有人知道这一列的名字是什么意思"}'.encode("gb18030")
    clean_files([write("in.jsonl", row + b"\n" + row)], tmp_path / "out.jsonl", choose())
    aside = (tmp_path / "out.jsonl.dropped.jsonl").read_text().splitlines()
    assert [base64.b64decode(json.loads(line)["original_base64"]) for line in aside] == [row, row]


def test_a_described_table_is_read_as_training_reads_it(write, tmp_path):
    turns = [{"from": "human", "value": f"call {PHONE}"}, {"from": "gpt", "value": "yes"}]
    quoted = json.dumps(turns).replace('"', '""')
    path = write("in.csv", f'talk,note\n"{quoted}",{PHONE}\n')
    entry = Entry(file_name="in.csv", formatting="sharegpt", columns={"messages": "talk"})
    clean_files([path], tmp_path / "out.jsonl", choose(["pii"]), entry=entry)
    found = json.loads((tmp_path / "out.jsonl").read_text())
    assert found["talk"][0]["value"] == "call [PHONE]"

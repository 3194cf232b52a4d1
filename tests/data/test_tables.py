import csv
import gzip
import io
import json
from datetime import datetime
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.data.convert import read_examples
from nacre.data.dataset import load
from nacre.data.reader import Reader, Row
from nacre.records import Dropped

ROWS = [{"instruction": f"say {n}, please", "input": "", "output": f'答案 "{n}"\n第二行'} for n in range(8)]


def table(rows=ROWS, **how):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator=how.pop("lineterminator", "\n"), **how)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read(path):
    reader = Reader(path)
    found = list(reader)
    return reader, [one for one in found if isinstance(one, Row)], [one for one in found if isinstance(one, Dropped)]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.txt"])
@pytest.mark.parametrize("lineterminator", ["\n", "\r\n"])
def test_a_table_is_told_by_its_content(write, delimiter, codec, name, lineterminator):
    path = write(name, table(delimiter=delimiter, lineterminator=lineterminator).encode(codec))
    reader, rows, dropped = read(path)
    assert [row.value for row in rows] == ROWS
    assert not dropped
    assert [row.line for row in rows] == list(range(2, 18, 2))
    assert reader.layout == "table"
    assert any("a table of 3 columns" in note for note in reader.notes)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"quoting": csv.QUOTE_ALL}, None),
        ({"doublequote": False, "escapechar": "\\"}, None),
        ({}, "instruction,output\n'say \"1\", please','fine'\n'say 2','fine'\n"),
        ({}, "sep=;\r\ninstruction;output\r\nsay 1, please;fine\r\nsay 2;fine\r\n"),
    ],
)
def test_quoting_is_told_by_content(write, how, text):
    path = write("rows.csv", text or table(**how))
    _, rows, dropped = read(path)
    assert not dropped
    assert len(rows) == (2 if text else 8)
    assert rows[-1].value["output"] == ("fine" if text else ROWS[-1]["output"])
    assert text is None or "please" in rows[0].value["instruction"]


def test_lists_objects_and_flags_stand_in_fields(write):
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [
        {"messages": json.dumps(talk), "label": "True", "tools": ""},
        {"messages": "[{", "label": "false", "tools": ""},
    ]
    found = read_examples(write("rows.csv", table(rows)))
    assert [(row.kind, row.desirable, row.answer) for row in found.examples] == [("kto", True, "hello")]
    assert [(row.line, row.reason) for row in found.dropped] == [
        (3, "column 'messages': the row is cut off: it ends before it is complete")
    ]


def test_described_columns_may_hold_lists_and_flags_too(write, tmp_path):
    columns = {"messages": "talk", "kto_tag": "ok"}
    info = {"mine": {"file_name": "rows.csv", "formatting": "sharegpt", "columns": columns}}
    talk = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    write("dataset_info.json", json.dumps(info))
    write("rows.csv", table([{"talk": json.dumps(talk), "ok": "false"}] * 2))
    loaded = load("mine", tmp_path, "train")
    assert [(row.kind, row.desirable) for row in loaded.examples] == [("kto", False)] * 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("only one", "the row has 1 fields, the header 3"),
        ("a,b,c,d", "the row has 4 fields, the header 3"),
        ('"a" b,c,d', "a quote is not closed, or more text follows it"),
        ('"never closed,b,c', "a quote is not closed, or more text follows it"),
        ("a,,b\0", "a raw control character"),
    ],
)
def test_a_bad_row_of_a_table_costs_nothing_but_itself(write, bad, reason):
    good = [row | {"output": "fine"} for row in ROWS]
    lines = table(good).splitlines(keepends=True)
    _, rows, dropped = read(write("rows.csv", "".join([*lines[:4], bad + "\n", *lines[4:]])))
    assert [row.value for row in rows] == good
    assert [(row.line, row.original) for row in dropped] == [(5, bad)]
    assert reason in dropped[0].reason
    assert dropped[0].remedy


def test_invalid_bytes_cost_their_row_only(write):
    content = table().encode().replace('答案 ""3'.encode(), b'\xff\xfe ""3')
    _, rows, dropped = read(write("rows.csv", content))
    assert [row.value for row in rows] == ROWS[:3] + ROWS[4:]
    assert [row.line for row in dropped] == [8]


def test_empty_fields_at_the_end_and_blank_lines_are_nothing(write):
    _, rows, dropped = read(write("rows.csv", "instruction,output,,\n\na,b,,\n\n,,,\nc,d\n"))
    assert [row.value for row in rows] == [
        {"instruction": "a", "output": "b"}, {"instruction": "", "output": ""}, {"instruction": "c", "output": "d"}
    ]  # fmt: skip
    assert not dropped


def test_prose_with_commas_is_no_table(write):
    reader, rows, _ = read(write("letter.txt", "Dear reader, this\nis a letter, and\nno table, is it\n"))
    assert (reader.layout, len(rows)) == ("plain text", 3)
    with pytest.raises(InputError, match="not JSON"):
        Reader(write("letter.json", "Dear reader,\nthis is, as you see,\na letter\n"))


def test_a_table_may_be_packed_and_a_dataset(write, tmp_path):
    write("dataset/inc/train.csv.gz", gzip.compress(table().encode()))
    write("dataset/inc/dev.tsv", table(ROWS[:2], delimiter="\t").replace("say", "tell"))
    train, dev = load("inc", tmp_path / "dataset", "train"), load("inc", tmp_path / "dataset", "dev")
    assert (len(train.examples), len(dev.examples)) == (8, 2)
    assert train.examples[0].origin.task == "inc"


fields = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\n\t"), max_size=12)
tables = st.lists(st.tuples(fields.filter(str.strip), fields), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(rows=tables, delimiter=st.sampled_from(",\t;|"), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_no_field_of_a_table_is_lost_or_changed(tmp_path_factory, rows, delimiter, quoting):
    records = [{"instruction": one, "output": two} for one, two in rows]
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text(table(records, delimiter=delimiter, quoting=quoting), encoding="utf-8", newline="")
    _, found, dropped = read(path)
    assert not dropped
    assert [row.value for row in found] == records


def parquet(path, rows, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **how)
    return path


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_parquet_is_read_row_group_by_row_group(tmp_path, name):
    rows = [
        {"messages": [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "好"}], "n": n}
        for n in range(1000)
    ]
    path = parquet(tmp_path / name, rows, row_group_size=100)
    reader, found, dropped = read(path)
    assert [row.value for row in found] == rows
    assert ([row.line for row in found][-1], dropped, reader.encoding.label) == (1000, [], "Parquet")
    assert len(read_examples(path).examples) == 1000


def test_what_json_has_no_type_for_is_converted_and_said(tmp_path):
    row = {
        "text": b"bytes",
        "score": float("nan"),
        "when": datetime(2024, 5, 20),
        "price": Decimal("1.50"),
        "raw": b"\xff",
    }
    reader, rows, _ = read(parquet(tmp_path / "rows.parquet", [row]))
    assert rows[0].value == {
        "text": "bytes", "score": None, "when": "2024-05-20T00:00:00", "price": "1.50", "raw": "/w=="
    }  # fmt: skip
    for word in ("NaN", "times", "decimal", "UTF-8 text", "base64"):
        assert any(word in note for note in reader.notes)


def test_a_parquet_text_that_is_no_utf8_costs_its_row_only(tmp_path):
    texts = pyarrow.array([b"one", b"\xff\xfe", b"three"], pyarrow.binary()).view(pyarrow.string())
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path)
    _, rows, dropped = read(path)
    assert [(row.line, row.value) for row in rows] == [(1, {"text": "one"}), (3, {"text": "three"})]
    assert [row.line for row in dropped] == [2]


def test_a_damaged_parquet_file_is_explained(tmp_path):
    path = parquet(tmp_path / "rows.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="the Parquet file cannot be read"):
        list(Reader(path))


def test_a_table_with_known_names_is_one_whatever_its_rows_look_like(write):
    text = "instruction,output\n" + "Say, please, hello,hi\n" * 9 + "fine,row\n"
    _, rows, dropped = read(write("rows.csv", text))
    assert [row.value for row in rows] == [{"instruction": "fine", "output": "row"}]
    assert {row.reason for row in dropped} == {"the row has 4 fields, the header 2"}
    assert len(dropped) == 9

import base64
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.base.errors import InputError
from nacre.data import mend, repair
from nacre.data.check import check
from nacre.data.clean.chain import choose
from nacre.data.cleaning import clean_files
from nacre.data.convert import read_examples
from nacre.data.mend import Mending
from nacre.data.reader import Reader
from nacre.data.repair import fix
from nacre.data.snapshot import take_snapshot
from nacre.data.strict import loads_all
from nacre.records import Dropped

GOOD = {"instruction": "a", "output": "b"}


def mended(text):
    told = []
    values = Mending(told.append).mend(3, text)
    return values, [change for repair in told for change in repair.changes]


@pytest.mark.parametrize(
    ("text", "values", "changes"),
    [
        ('{"a": 1,}', [{"a": 1}], [mend.COMMA_TOO_MANY]),
        ('{"a": [1, 2,],}', [{"a": [1, 2]}], [mend.COMMA_TOO_MANY]),
        ('{"a": 1},', [{"a": 1}], [mend.COMMA_TOO_MANY]),
        ("{'a': 'it\\'s', \"b\": \"it's\"}", [{"a": "it's", "b": "it's"}], [mend.SINGLE_QUOTES]),
        ("{'a': None, 'b': [True, False]}", [{"a": None, "b": [True, False]}], [mend.SINGLE_QUOTES, mend.PYTHON]),
        ("{'a': '\\x41\\u7b54\\n'}", [{"a": "A答\n"}], [mend.SINGLE_QUOTES]),
        ('{"a": NaN, "b": -Infinity, "c": undefined}', [{"a": None, "b": None, "c": None}], [mend.NOT_A_NUMBER]),
        ("{a: 1, $b: {c: 2}}", [{"a": 1, "$b": {"c": 2}}], [mend.BARE_KEY]),
        ('{"a": "x\ny\tz"}', [{"a": "x\ny\tz"}], [mend.RAW_BREAK]),
        ('{"a": "x" "b": 1}', [{"a": "x", "b": 1}], [mend.COMMA_MISSING]),
        ('{"a": [{"b": 1} {"b": 2}]}', [{"a": [{"b": 1}, {"b": 2}]}], [mend.COMMA_MISSING]),
        ('{"a": 1} // why', [{"a": 1}], [mend.COMMENT]),
        ('{"a": /* one */ 1 # two\n}', [{"a": 1}], [mend.COMMENT]),
        ("# only words", [], [mend.COMMENT]),
        ('{"a": 1}, {"a": 2}', [{"a": 1}, {"a": 2}], [mend.ONE_LINE]),
        ('{"a": "\\ud83d\\ude00",}', [{"a": "😀"}], [mend.COMMA_TOO_MANY]),
    ],
)
def test_what_has_one_right_answer_is_mended_and_named(text, values, changes):
    assert mended(text) == (values, changes)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}', '{"a": "say "hi" now"}', '{"a": "C:\\data"}', '{"a": "\\ud83d",}', '{"a": 1e400,}',
        '{"a": "cut of', '{"a": 1', '{"a": ', "{'a': 'it's'}", '{"a": [1 2]}', '{"a": ["x" "y"]}', '{"a": 1,, "b": 2}',
        '{"a": "\udcff",}', '{"a": "\x00",}', "instruction,output", '{"a": 01}', '{"a": "x"} trailing words',
        "[" * 500 + "]" * 500, '{"a": ' + "9" * 5000 + ",}", '{"a": "x"b": 1}', '{"a" "b"}', '{"a": "\\x41",}',
    ],
)  # fmt: skip
def test_what_could_mean_two_things_is_left_alone(text):
    assert mended(text) == (None, [])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    value=st.dictionaries(st.text(max_size=5), json_values, max_size=4),
    ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_sound_json_is_read_as_it_is(value, ascii, indent):
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    assert mended(text) == ([value], [])


@settings(max_examples=300, deadline=None)
@given(value=st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_python_literals_are_read_as_python_reads_them(value):
    values, _ = mended(repr(value))
    assert values == [value] or "\\" in repr(value)
    assert values is None or values == [value]


@settings(max_examples=300, deadline=None)
@given(text=st.text("{}[]\",:\\' 1aeE.-#/*\nNT", max_size=40))
def test_no_text_is_too_odd_and_nothing_is_changed_unsaid(text):
    values, changes = mended(text)
    assert values is None or changes or values == loads_all(text.strip())


BROKEN = """// exported by hand
{'instruction': 'one', 'output': 'yes'}
{"instruction": "two", "output": "b",}
{"instruction": "three", "output": "first
second"}
{"instruction": "four", "output": "x", "score": NaN}
{"instruction": "five", "output": "x", "output": "y"}
{"instruction": "six", "output": ""}
{"instruction": "seven", "output": "done"}
{"instruction": "eight", "output": "cut of"""


def test_a_file_is_mended_row_by_row_and_each_repair_is_named(write, tmp_path):
    path = write("rows.jsonl", BROKEN)
    report = fix(path, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["instruction"] for row in rows] == ["one", "two", "three", "four", "seven"]
    assert rows[2]["output"] == "first\nsecond"
    assert rows[3]["score"] is None
    assert [(one.line, one.changes) for one in report.repairs] == [
        (1, (mend.COMMENT,)), (2, (mend.SINGLE_QUOTES,)), (3, (mend.COMMA_TOO_MANY,)), (4, (mend.RAW_BREAK,)),
        (6, (mend.NOT_A_NUMBER,)),
    ]  # fmt: skip
    named = [json.loads(line) for line in (tmp_path / "out.jsonl.repairs.jsonl").read_text().splitlines()]
    assert [(one["line"], tuple(one["changes"])) for one in named] == [
        (one.line, one.changes) for one in report.repairs
    ]
    left = [Dropped.from_json(line) for line in (tmp_path / "out.jsonl.dropped.jsonl").read_text().splitlines()]
    assert [row.line for row in left] == [7, 8, 10]
    assert [row.original for row in left] == [BROKEN.split("\n")[line - 1] for line in (7, 8, 10)]
    assert (report.rows, report.written, report.dropped) == (8, 5, 3)
    assert check(report.out).ok
    assert path.read_text() == BROKEN
    text = "\n".join(report.lines())
    assert "repaired: line 2: text in single quotes" in text
    assert "out.jsonl.dropped.jsonl" in text


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_mended_too(write, tmp_path, indent):
    rows = [GOOD | {"n": n} for n in range(6)]
    text = json.dumps(rows, indent=indent).replace('"n": 2', '"n": NaN').replace("4", "4,")
    report = fix(write("rows.json", text), tmp_path / "out.jsonl")
    assert (report.written, report.dropped) == (6, 0)
    found = [json.loads(line)["n"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found == [0, 1, None, 3, 4, 5]
    assert len(report.repairs) == 2


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("instruction,output\n一,是\n二,不\n".encode("gb18030") * 1, "converted to UTF-8"),
        ('{"instruction": "一", "output": "是"}\n{"instruction": "二", "output": "不"}\n'.encode("utf-16"), "UTF-16"),
        (
            gzip.compress(
                '[{"instruction": "一", "output": "是"}, {"instruction": "二", "output": "不"}]'.encode(), mtime=0
            ),
            "gzip",
        ),
        (
            '\ufeff{"rows": [{"instruction": "一", "output": "是"} {"instruction": "二", "output": "不"}]}'.encode(),
            "key 'rows'",
        ),
    ],
)
def test_whole_files_become_json_lines_in_utf_8(write, tmp_path, content, note):
    report = fix(write("rows.data", content), tmp_path / "out.jsonl")
    expected = '{"instruction": "一", "output": "是"}\n{"instruction": "二", "output": "不"}\n'
    assert (tmp_path / "out.jsonl").read_bytes() == expected.encode()
    assert any(note in one for one in report.notes)
    assert not (tmp_path / "out.jsonl.dropped.jsonl").exists()


def test_the_source_is_never_written_to_and_old_results_go(write, tmp_path):
    path = write("rows.jsonl", [GOOD])
    with pytest.raises(InputError, match="onto itself"):
        fix(path, path)
    write("rows.fixed.jsonl.dropped.jsonl", "old")
    report = fix(path)
    assert (report.out, report.dropped_file) == (str(tmp_path / "rows.fixed.jsonl"), "")
    assert not (tmp_path / "rows.fixed.jsonl.dropped.jsonl").exists()
    write("bad.jsonl", b"")
    with pytest.raises(InputError, match="empty"):
        fix(tmp_path / "bad.jsonl", tmp_path / "rows.fixed.jsonl")
    assert (tmp_path / "rows.fixed.jsonl").exists()


def test_long_lists_are_shortened_but_not_in_the_file(write, tmp_path, monkeypatch):
    monkeypatch.setattr(repair, "MOST_REPAIRS", 5)
    report = fix(write("rows.jsonl", '{"text": "a",}\n' * 9), tmp_path / "out.jsonl")
    assert (len(report.repairs), report.repaired) == (5, {mend.COMMA_TOO_MANY: 9})
    assert len((tmp_path / "out.jsonl.repairs.jsonl").read_text().splitlines()) == 9


def bytes_of(dropped):
    if dropped.original_base64:
        return base64.b64decode(dropped.original_base64)
    return dropped.original.encode()


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_bytes_of_a_row_that_cannot_be_used_are_kept(write, codec, end):
    bad = ['{"instruction": "这一行是坏的", "output": NaN}', '{"instruction": "长", "output": "' + "长" * 9000 + '", }']
    rows = [json.dumps({"instruction": f"第{n}行", "output": "好的，没有问题"}, ensure_ascii=False) for n in range(9)]
    content = end.join([*rows[:4], bad[0], *rows[4:], bad[1], ""])
    dropped = [one for one in Reader(write("rows.jsonl", content.encode(codec))) if isinstance(one, Dropped)]
    part = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(codec, codec)
    assert [bytes_of(one) for one in dropped] == [one.encode(part) for one in bad]


def test_bytes_that_are_no_text_are_kept(write):
    bad = b'{"instruction": "\xff\xfe\x80", "output": "b"}'
    found = read_examples(write("rows.jsonl", b'{"text": "a"}\r\n' * 3 + bad + b"\r\n"))
    assert bytes_of(found.dropped[0]) == bad
    assert r"\xff\xfe\x80" in found.dropped[0].original
    again = Dropped.from_json(found.dropped[0].to_json())
    assert again == found.dropped[0]


def test_the_bytes_are_in_the_file_of_dropped_rows_and_not_in_the_snapshot(write, tmp_path):
    bad = b'{"instruction": "\xff", "output": "b"}'
    rows = [{"instruction": str(n), "output": "b"} for n in range(30)]
    write("inc/train.json", "".join(json.dumps(row) + "\n" for row in rows).encode() + bad)
    snapshot = take_snapshot("inc", tmp_path, tmp_path / "memory", drop_budget=0.1)
    (kept,) = (tmp_path / "memory" / "dropped" / "inc.jsonl").read_text().splitlines()
    assert bytes_of(Dropped.from_json(kept)) == bad
    assert [row.original_base64 for row in snapshot.dropped] == [""]
    assert "original_base64" not in snapshot.to_json()


def test_a_row_that_text_shows_whole_is_written_once(write):
    found = read_examples(write("rows.jsonl", '{"text": "a"}\n{"text": 3}\n'))
    assert "original_base64" not in found.dropped[0].to_json()
    assert found.dropped[0].original == '{"text": 3}'


def test_a_pretty_row_with_windows_line_ends_is_kept_whole(write):
    bad = '{\r\n    "output": NaN\r\n  }'
    text = '[\r\n  {\r\n    "text": "a"\r\n  },\r\n  ' + bad + ',\r\n  {\r\n    "text": "b"\r\n  }\r\n]\r\n'
    found = read_examples(write("rows.json", text))
    assert len(found.examples) == 2
    assert bytes_of(found.dropped[0]) == bad.encode()


def test_who_writes_rows_as_they_come_keeps_the_bytes_of_all(write, tmp_path, monkeypatch):
    monkeypatch.setattr("nacre.data.reader.KEPT_BYTES", 10_000)
    bad = '{"instruction": "' + "x" * 6000 + '"'
    source = write("rows.jsonl", '{"text": "a"}\n' + (bad + "\n") * 5)
    report = fix(source, tmp_path / "out.jsonl")
    kept = [Dropped.from_json(line) for line in Path(report.dropped_file).read_text().splitlines()]
    assert [bytes_of(one) for one in kept] == [bad.encode()] * 5
    clean_files([source], tmp_path / "clean.jsonl", choose(["html"]))
    aside = (tmp_path / "clean.jsonl.dropped.jsonl").read_text().splitlines()
    assert [base64.b64decode(json.loads(line)["original_base64"]) for line in aside] == [bad.encode()] * 5
    assert not any("kept in part" in note for note in report.notes)


def test_bytes_are_kept_up_to_a_limit_and_then_it_is_said(write, monkeypatch):
    monkeypatch.setattr("nacre.data.reader.KEPT_BYTES", 10_000)
    reader = Reader(write("rows.jsonl", '{"text": "a"}\n' + ('{"text": "' + "x" * 6000 + '",}\n') * 5))
    dropped = [one for one in reader if isinstance(one, Dropped)]
    assert [bool(one.original_base64) for one in dropped] == [True, True, False, False, False]
    assert any("3 rows that cannot be used are kept in part" in note for note in reader.notes)

import gzip
import hashlib
import json

import pytest

from nacre.base.errors import InputError
from nacre.data import source as reader_module
from nacre.data.reader import Reader, Row
from nacre.data.strict import loads
from nacre.records import Dropped

ROWS = [{"instruction": f"question {n}", "output": f"答案 {n}"} for n in range(6)]


def read(path):
    reader = Reader(path)
    found = list(reader)
    return (
        reader,
        [row for row in found if isinstance(row, Row)],
        [row for row in found if isinstance(row, Dropped)],
    )


def values(rows):
    return [row.value for row in rows]


def lines(rows=ROWS):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        lines(),
        lines().rstrip("\n"),
        lines().replace("\n", "\r\n"),
        lines().replace("\n", "\r"),
        lines().replace("\n", "\n\n  \n"),
        json.dumps(ROWS),
        json.dumps(ROWS, ensure_ascii=False, indent=2),
        json.dumps(ROWS, indent="\t").replace("\n", "\r\n"),
        "[\n" + ",\n".join(json.dumps(row) for row in ROWS) + "\n]\n",
        json.dumps({"data": ROWS}),
        json.dumps({"data": ROWS, "version": 2}, indent=1),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "".join(json.dumps(row) for row in ROWS),
    ],
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.data"])
def test_every_layout_gives_the_same_rows_whatever_the_ending(write, text, name):
    path = write(name, text)
    reader, rows, dropped = read(path)
    assert values(rows) == ROWS
    assert not dropped
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("codec", "label", "told"),
    [
        ("utf-8", "UTF-8", False),
        ("utf-8-sig", "UTF-8 with BOM", False),
        ("utf-16", "UTF-16", True),
        ("utf-16-le", "UTF-16", True),
        ("utf-16-be", "UTF-16", True),
        ("gbk", "GB18030", True),
        ("gb18030", "GB18030", True),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_encodings_are_told_and_converting_is_noted(write, codec, label, told, indent):
    rows = [{"instruction": "今天天气怎么样，请用一句话回答", "output": f"今天晴朗，气温{n}度。"} for n in range(20)]
    text = json.dumps(rows, ensure_ascii=False, indent=indent) if indent else lines(rows)
    reader, found, dropped = read(write("rows.json", text.encode(codec)))
    assert (values(found), dropped, reader.encoding.label) == (rows, [], label)
    assert any("converted" in note for note in reader.notes) == told


def test_a_gbk_file_that_begins_in_english_is_still_gbk(write):
    rows = [{"instruction": "an English row " * 20, "output": "fine"}] * 4000 + [
        {"instruction": "这一行是中文，很久以后才出现", "output": "好的"}
    ] * 3
    reader, found, dropped = read(write("late.jsonl", lines(rows).encode("gbk")))
    assert (len(found), dropped, found[-1].value["output"], reader.encoding.label) == (4003, [], "好的", "GB18030")


@pytest.mark.parametrize("indent", [None, 2])
def test_one_damaged_row_does_not_change_the_encoding_of_the_others(write, indent):
    rows = [{"output": f"很好 {n}"} for n in range(9)]
    text = (json.dumps(rows, ensure_ascii=False, indent=2) if indent else lines(rows)).encode()
    damaged = text.replace("很好 4".encode(), b"\xe5\xbe\xff 4")
    reader, found, dropped = read(write("rows.json", damaged))
    assert values(found) == rows[:4] + rows[5:]
    assert reader.encoding.label == "UTF-8"
    assert len(dropped) == 1
    assert dropped[0].line == (14 if indent else 5)
    assert "not valid in the file's encoding" in dropped[0].reason
    assert r'"output": "\xe5\xbe\xff 4"' in dropped[0].original


def test_latin_1_rows_are_dropped_and_not_read_as_chinese(write):
    rows = [{"output": f"café déjà vu, très élégant à côté {n}"} for n in range(5)] + [{"output": "plain"}]
    reader, found, dropped = read(write("rows.jsonl", lines(rows).encode("latin-1")))
    assert reader.encoding.label == "UTF-8"
    assert values(found) == [{"output": "plain"}]
    assert len(dropped) == 5
    assert "save the file as UTF-8" in dropped[0].remedy


GOOD = '{"output": "fine"}'


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"output": "cut of', "cut off"),
        ('{"output": "a", ', "cut off"),
        ('{"output": NaN}', "NaN is no JSON value"),
        ('{"output": -Infinity}', "-Infinity is no JSON value"),
        ('{"output": 1e400}', "1e400 is too large"),
        ('{"output": ' + "9" * 5000 + "}", "number"),
        ('{"output": "a", "output": "b"}', "the key 'output' stands twice"),
        ('{"a": {"k": 1, "k" : 2}}', "the key 'k' stands twice"),
        ('{"output": "a",}', "comma before the closing bracket"),
        ("{'output': 'a'}", "single quotes"),
        ('{"output": None}', "Python's spelling"),
        ('{"output": nan}', "does not have"),
        ('{"output": "a"} // why', "comment"),
        ('{"output": "a" "b": 1}', "a comma is missing"),
        ('{"output": "say "hi" now"}', "a quote inside a text"),
        ('{"output": "a\tb"}', "control character"),
        (r'{"output": "C:\data"}', "backslash"),
        (r'{"output": "\ud83d"}', "half of a character"),
        ('{output: "a"}', "without double quotes"),
        ('{"output" "a"}', "colon is missing"),
        ('{"output": }', "value left out"),
        ("[1, 2]", "the row is a list"),
        ('"text"', "the row is a text"),
        ("3", "the row is a number"),
        ("null", "the row is null"),
        ("instruction,output", "no JSON"),
        ("[" * 100_000, "nested too deeply"),
        (GOOD + ",", "more text follows on the line: ,"),
    ],
)
def test_a_bad_line_is_dropped_with_its_reason_and_the_others_are_read(write, bad, reason):
    _, rows, dropped = read(write("rows.jsonl", f"{GOOD}\n{bad}\n{GOOD}\n"))
    assert [row.line for row in rows] == [1, 3]
    assert [row.line for row in dropped] == [2]
    assert reason in dropped[0].reason
    assert dropped[0].remedy
    assert "\n" not in dropped[0].reason
    assert dropped[0].original[:20] == bad[:20]


@pytest.mark.parametrize(
    "sound",
    [
        '{"output": "a \\": b", "b": ": c"}',
        '{"output": ":", "x" : {"output": "y"}}',
        '{"output": "\\ud83d\\ude00"}',
        '{"output": "C:\\\\ud83d"}',
        '{"output": "line\u2028separator \u0085"}',
    ],
)
def test_odd_but_sound_lines_are_kept(write, sound):
    _, rows, dropped = read(write("rows.jsonl", f"{GOOD}\n{sound}\n{GOOD}\n"))
    assert values(rows)[1] == json.loads(sound)
    assert len(rows) == 3
    assert not dropped


@pytest.mark.parametrize("bad", ['{\n    "output": NaN\n  }', '{\n    "output": "a\n  }', "{\n    'output': 1\n  }"])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_a_bad_row_of_a_pretty_array_is_passed_over(write, monkeypatch, bad, chunk):
    monkeypatch.setattr(reader_module, "CHUNK_BYTES", chunk)
    text = json.dumps(ROWS, indent=2, ensure_ascii=False).split("  {\n")
    broken = "  {\n".join(text[:3]) + f"  {bad},\n  {{\n" + "  {\n".join(text[3:])
    _, rows, dropped = read(write("rows.json", broken))
    assert values(rows) == ROWS
    assert [row.line for row in dropped] == [10]
    assert [row.line for row in rows] == [2, 6, 10 + bad.count("\n") + 1, *range(15 + bad.count("\n"), 27, 4)]


@pytest.mark.parametrize("bad", ['{"output": NaN}', '{"output": "a",}', "{'output': ['x']}", "7", '{"k": {"a": nan}}'])
def test_a_bad_row_of_an_array_on_one_line_is_passed_over(write, bad):
    texts = [json.dumps(row) for row in ROWS]
    _, rows, dropped = read(write("rows.json", "[" + ", ".join([*texts[:2], bad, *texts[2:]]) + "]"))
    assert values(rows) == ROWS
    assert len(dropped) == 1
    assert dropped[0].original == bad


def test_a_bracket_too_many_costs_nothing_but_itself(write):
    _, rows, dropped = read(write("rows.json", '[{"a": 1}, {"a": 2}}, {"a": 3}]'))
    assert values(rows) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [row.original for row in dropped] == ["}"]


def test_a_nul_byte_costs_its_row_only(write):
    _, rows, dropped = read(write("rows.jsonl", f"{GOOD}\n" * 20 + '{"output": "a\x00b"}\n'))
    assert (len(rows), [row.line for row in dropped]) == (20, [21])
    assert "control character" in dropped[0].reason


@pytest.mark.parametrize("indent", [None, 2])
def test_a_truncated_array_keeps_its_whole_rows_and_says_that_it_was_cut(write, indent):
    text = json.dumps(ROWS, indent=indent)
    for cut in (text.index("question 4") + 4, text.rindex("}") + 1):
        _, rows, dropped = read(write("cut.json", text[:cut]))
        whole = 4 if cut < text.rindex("}") else 6
        assert values(rows) == ROWS[:whole]
        assert len(dropped) == 1
        assert "cut off" in dropped[0].reason


def test_text_after_an_array_is_reported(write):
    _, rows, dropped = read(write("rows.json", json.dumps(ROWS) + '\n{"output": "lost"}'))
    assert len(rows) == 6
    assert (dropped[0].line, "after the end of the array" in dropped[0].reason) == (2, True)
    assert "lost" in dropped[0].original


def test_plain_text_gives_a_row_a_line(write):
    _, rows, dropped = read(
        write("wiki.txt", "First text.\n\n{not JSON} at all\n第三行\n".encode() + b"bad \xff byte\n")
    )
    assert [(row.line, row.value) for row in rows] == [
        (1, {"text": "First text."}),
        (3, {"text": "{not JSON} at all"}),
        (4, {"text": "第三行"}),
    ]
    assert [row.line for row in dropped] == [5]


@pytest.mark.parametrize("name", ["rows.txt", "rows.jsonl"])
def test_json_lines_are_told_by_content_even_in_a_text_file(write, name):
    reader, rows, _ = read(write(name, lines()))
    assert (reader.layout, values(rows)) == ("JSON lines", ROWS)


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (b"", "empty (0 bytes)", "again"),
        (b"\xef\xbb\xbf \n\n", "only blank lines", "again"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "web page", "raw file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git-LFS pointer", "git lfs pull"),
        (b"\x1f\x8b\x08\x00abc", "the gzip data is cut off", "again"),
        (gzip.compress(b"", mtime=0), "empty", "again"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "a gzip file inside a gzip file", "gunzip"),
        (b"BZh91AY&SY abc", "bzip2", "bunzip2"),
        (b"\x28\xb5\x2f\xfdabc", "Zstandard", "unzstd"),
        (b"PK\x03\x04abc", "zip", "export"),
        (b"PAR1abc", "the Parquet file cannot be read", "again"),
        (bytes(range(256)) * 4, "binary data", "JSON"),
        (b"What is it?,a b\nWho is it?,a c\nWhy is it?,a d\n", "does not name its columns", "instruction,output"),
        (b"input,output,output\n1,2,3\n", "names the column 'output' twice", "rename"),
        (b"Dear reader,\nthis is a letter.\n", "not JSON", ".txt"),
    ],
)
def test_a_file_that_holds_no_rows_is_named_for_what_it_is(write, content, what, fix):
    path = write("rows.jsonl", content)
    with pytest.raises(InputError) as caught:
        list(Reader(path))
    assert what in caught.value.what
    assert str(path) in caught.value.where
    assert fix in caught.value.fix


def test_missing_files_and_folders_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Reader(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="folder"):
        Reader(tmp_path)


def test_long_originals_are_shortened_with_a_count(write):
    _, _, dropped = read(write("rows.jsonl", f'{GOOD}\n{{"output": NaN, "x": "{"y" * 10_000}"}}\n'))
    assert dropped[0].original.endswith("more characters)")
    assert len(dropped[0].original) < 4100


@pytest.mark.parametrize("number", [2**63 - 1, 2**64, -(2**63) - 1, 10**30])
def test_whole_numbers_of_any_length_stay_whole(number):
    assert loads(f'{{"id": {number}}}') == {"id": number}

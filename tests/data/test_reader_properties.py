"""Properties of reading: whatever the rows, the layout and the encoding, no valid row is lost, changed or moved."""

import base64
import codecs
import gzip
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nacre.data import source as source_module
from nacre.data.reader import Reader, Row
from nacre.records import Dropped

GOOD = '{"output": "fine"}'


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


cells = st.text(st.characters(codec="utf-8"), max_size=12)
records = st.dictionaries(
    st.text("abc:\"\\{}[]' 答", min_size=1, max_size=5),
    st.one_of(cells, st.none(), st.integers(), st.lists(st.dictionaries(cells, cells, max_size=2), max_size=2)),
    max_size=4,
)
layouts = st.sampled_from(
    [
        lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
        lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows),
        lambda rows: json.dumps(rows, ensure_ascii=False),
        lambda rows: json.dumps(rows, indent=2),
        lambda rows: "[" + "\n,".join(json.dumps(row, indent=1) for row in rows) + "]",
    ]
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(records, min_size=1, max_size=6), layout=layouts, chunk=st.sampled_from([1, 5, 1 << 20]))
def test_reading_never_loses_or_reorders_a_row(tmp_path_factory, rows, layout, chunk):
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    path.write_bytes(layout(rows).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "CHUNK_BYTES", chunk)
        _, found, dropped = read(path)
    assert values(found) == rows
    assert not dropped
    assert [row.line for row in found] == sorted(row.line for row in found)


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"]
LAYOUTS = {
    "JSON lines": lambda texts: "".join(text + "\n" for text in texts),
    "CRLF": lambda texts: "".join(text + "\r\n" for text in texts),
    "blank lines": lambda texts: "\n\n".join(texts),
    "JSON array": lambda texts: "[" + ", ".join(texts) + "]",
    "array over lines": lambda texts: "[\n  " + ",\n  ".join(texts) + "\n]\n",
    "wrapped array": lambda texts: '{"data": [\n' + ",\n".join(texts) + "\n]}",
    "pretty array": lambda texts: "[\n  " + ",\n  ".join(map(pretty, texts)) + "\n]",
}


def pretty(text):
    if "instruction" not in text:
        return text
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False).replace("\n", "\n  ")


# characters whose GB18030 bytes are no UTF-8 by chance, as any ordinary sentence has some
chinese = st.text("的大地国好会个过和后就来可家不", min_size=6, max_size=20)
usable = st.builds(lambda one, two: {"instruction": one, "output": two}, chinese, st.one_of(chinese, cells))


def in_codec(rows, codec):
    """GB18030 is told by its Chinese text: rows without any, and with letters of other scripts, are no such file."""
    return [
        row | {"output": row["instruction"]} if codec == "gb18030" and isinstance(row, dict) else row for row in rows
    ]


faults = st.sampled_from(
    ['{"output": NaN}', "{'output': 'x'}", '{"output": "a",}', '{"a": 1, "a": 2}', '{"output": 1e400}',
     '{"output": "a" "b": 1}', '{output: "x"}', '{"a": nan}', '{"output": "\\ud83d"}']
)  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("codec", ENCODINGS)
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(usable, min_size=1, max_size=8),
    layout=st.sampled_from(sorted(LAYOUTS)),
    chunk=st.sampled_from([24, 1 << 20]),
)
def test_no_row_is_lost_or_moved_in_any_layout_and_encoding(tmp_path_factory, codec, packed, rows, layout, chunk):
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    rows = in_codec(rows, codec)
    content = LAYOUTS[layout]([json.dumps(row, ensure_ascii=False) for row in rows]).encode(codec)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "CHUNK_BYTES", chunk)
        reader, found, dropped = read(path)
    assert values(found) == rows
    assert not dropped
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("codec", ENCODINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.one_of(usable, faults), min_size=1, max_size=9), chunk=st.sampled_from([24, 1 << 20]))
def test_bad_rows_between_never_change_the_good_ones(tmp_path_factory, codec, layout, rows, chunk):
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    rows = in_codec([{"instruction": "第一行总是好的，没有问题", "output": "好"}, *rows], codec)
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes(LAYOUTS[layout](texts).encode(codec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "CHUNK_BYTES", chunk)
        _, found, dropped = read(path)
    assert values(found) == [row for row in rows if isinstance(row, dict)]
    assert ["".join(one.original.split()) for one in dropped] == [
        "".join(row.split()) for row in rows if isinstance(row, str)
    ]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.one_of(records.map(json.dumps), st.sampled_from(['{"a": NaN}', '{"a"', "{'b': 1}", "[]"])), max_size=8
    )
)
def test_bad_lines_are_all_reported_and_take_no_other_line_with_them(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join([GOOD, *rows]), encoding="utf-8")
    _, found, dropped = read(path)
    bad = [number for number, row in enumerate(rows, 2) if row in ('{"a": NaN}', '{"a"', "{'b': 1}", "[]")]
    assert [row.line for row in dropped] == bad
    assert values(found) == [json.loads(row) for number, row in enumerate([GOOD, *rows], 1) if number not in bad]


@pytest.mark.parametrize("cut", [60, 61, 75])
def test_a_row_of_utf_16_that_lost_a_byte_keeps_its_bytes(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    data = (f"{GOOD}\n" * 3).encode("utf-16-le")
    data = codecs.BOM_UTF16_LE + data[:cut] + data[cut + 1 :] + b"\x00\xd8"
    path.write_bytes(data)
    reader, found, dropped = read(path)
    assert found
    kept = [base64.b64decode(one.original_base64) for one in dropped]
    assert all(kept)
    assert all(part in data for part in kept)
    assert kept[-1].endswith(b"\x00\xd8")
    assert not any("kept in part" in note for note in reader.notes)

"""Every kind of damaged file ends in a load or in one line with the remedy: never in a traceback."""

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nacre.base.errors import InputError
from nacre.data.check import CheckReport, check
from nacre.data.repair import fix

ROWS = [
    {"instruction": f"第 {n} 个问题是什么？ question {n}", "input": "", "output": f"答案是 {n}。"} for n in range(20)
]
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False)


def lines(rows: list[Any] = ROWS) -> str:
    return "".join(line(row) + "\n" for row in rows)


def amid(bad: str, *more: str) -> str:
    """Ten good rows, then these lines, then ten more good rows."""
    return lines(ROWS[:10]) + "".join(f"{one}\n" for one in (bad, *more)) + lines(ROWS[10:])


def row(**columns: Any) -> dict[str, Any]:
    return {"instruction": "one more", "output": "fine"} | columns


def pretty(rows: list[Any] = ROWS) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False)


def csv(rows: list[dict[str, str]] = ROWS) -> str:
    return "instruction,input,output\n" + "".join(f'"{r["instruction"]}",{r["input"]},"{r["output"]}"\n' for r in rows)


@dataclass(frozen=True)
class Case:
    """What is in the file; how many rows can be used; words of each problem and of warnings or notes."""

    content: bytes | str
    usable: int = 20
    problems: tuple[str, ...] = ()
    said: str = ""
    name: str = "rows.jsonl"
    lines: tuple[int, ...] = ()
    mended: int | None = None  # rows that --fix writes, where not the usable ones


PAIR = {"instruction": "q", "chosen": "good", "rejected": "bad"}
WRAPPED = json.dumps({"data": ROWS}, ensure_ascii=False)
LATE = [{"instruction": str(n), "output": "x"} for n in range(3000)]

BIG5 = lines([{"instruction": "請問這個問題的答案是什麼", "output": "這是繁體中文的答案，我們不知道"}] * 20)
SHIFT_JIS = lines([{"instruction": "日本語の質問です", "output": "これは答えです"}] * 20)

LOADS = {
    "UTF-8 BOM before lines": Case(b"\xef\xbb\xbf" + lines().encode()),
    "UTF-8 BOM before an array": Case(b"\xef\xbb\xbf" + pretty().encode(), name="rows.json"),
    "two files with BOMs, one after the other": Case(
        b"\xef\xbb\xbf" + lines(ROWS[:10]).encode() + b"\xef\xbb\xbf" + lines(ROWS[10:]).encode()
    ),
    "CRLF line ends": Case(lines().replace("\n", "\r\n")),
    "lone CR line ends": Case(lines().replace("\n", "\r")),
    "a JSON array named .jsonl": Case(json.dumps(ROWS)),
    "JSON lines named .json": Case(lines(), name="rows.json"),
    "one single object": Case(json.dumps(ROWS[0], indent=1), usable=1, name="rows.json"),
    "blank lines": Case(lines().replace("\n", "\n\n \n")),
    "gzip under .jsonl": Case(gzip.compress(lines().encode()), said="unpacked from gzip"),
    "gzip of two members": Case(gzip.compress(lines(ROWS[:9]).encode()) + gzip.compress(lines(ROWS[9:]).encode())),
    "no newline between objects": Case(lines().replace("\n", ""), said="several objects"),
    "U+2028 in a value": Case(amid(line(row(output="a\u2028b"))), usable=21),
    "an odd file name": Case(lines(), name="rows '☃ [1] %s\n.jsonl"),
    "a key that appears late": Case(lines([*LATE, row(system="be kind")]), usable=3001),
    "a type that drifts after thousands of rows": Case(
        lines([*LATE, row(output=7)]), usable=3000, problems=("column 'output' is a number",), lines=(3001,)
    ),
    "a GBK file": Case(lines().encode("gbk"), said="GB18030"),
    "a UTF-16 file": Case(lines().encode("utf-16"), said="UTF-16"),
    "comments above an array": Case("// rows\n" + pretty(), said="comment", name="rows.json"),
    "CSV under .jsonl": Case(csv(), said="table"),
    "a GBK CSV": Case(csv().encode("gbk"), said="GB18030", name="rows.csv"),
    "records wrapped under a key": Case(WRAPPED, said="under the key 'data'", name="rows.json"),
    "one 10 MB line": Case(amid(line(row(output="long " * 2_000_000))), usable=21, said="longer than 20,000"),
    "one record repeated a thousand times": Case(lines([ROWS[0]] * 1000), usable=1000, said="1 are distinct"),
    "mojibake": Case(amid(line(row(output="cafÃ© dÃ©jÃ\xa0 vu"))), usable=21, said="decoded wrongly"),
    "Chinese mojibake": Case(amid(line(row(output="浣犲ソ锛屼笘鐣岋紒"))), usable=21, said="decoded wrongly"),
    "chat-template tokens in text": Case(amid(line(row(output="done<|im_end|>"))), usable=21, said="control tokens"),
    "a token with figures": Case(
        amid(line(row(output="x<|reserved_special_token_12|>"))), usable=21, said="control tokens"
    ),
    "a script in text": Case(amid(line(row(output="<script>x()</script>"))), usable=21, said="scripts"),
    "chosen equals rejected": Case(lines([PAIR | {"rejected": "good"}]), usable=1, said="same answer as chosen"),
}
DROPS = {
    "invalid UTF-8 in one line": Case(
        amid(line(row(output="XX"))).encode().replace(b"XX", b"\xff\xfe"), problems=("0xFF is not valid",), lines=(11,)
    ),
    "a truncated JSONL": Case(lines()[:-12], usable=19, problems=("cut off",), lines=(20,)),
    "a truncated array": Case(pretty()[:-20], usable=19, problems=("cut off",), name="rows.json"),
    "an array without its end": Case(pretty()[:-2], problems=("not closed",), name="rows.json"),
    "a truncated gzip": Case(gzip.compress(lines().encode())[:-30], usable=-1, problems=("cut off", "gzip data")),
    "bytes after a gzip": Case(gzip.compress(lines().encode()) + b"junk", problems=("bytes after the end",)),
    "a trailing comma": Case(amid('{"instruction": "a", "output": "b",}'), problems=("comma before",), mended=21),
    "a Python repr": Case(amid(str(row())), problems=("single quotes",), mended=21),
    "a comment at the end": Case(amid(line(row()) + " // why"), problems=("comment",), mended=21),
    "a comment on a line of its own": Case(amid("# the rest is new"), problems=("comment",)),
    "raw control characters": Case(
        amid('{"instruction": "a", "output": "b\tc"}'), problems=("raw control character",), mended=21
    ),
    "a line break inside a text": Case(
        amid('{"instruction": "a", "output": "b', 'c"}'), problems=("cut off", "no JSON"), mended=21
    ),
    "a lone surrogate": Case(amid(r'{"instruction": "a", "output": "\ud83d"}'), problems=("half of a character",)),
    "NUL bytes": Case(amid('{"instruction": "a", "output": "b\0"}'), problems=("control character",)),
    "the number 1e400": Case(amid('{"instruction": "a", "output": 1e400}'), problems=("too large",)),
    "a duplicate key": Case(amid('{"instruction": "a", "output": "b", "output": "c"}'), problems=("stands twice",)),
    "NaN": Case(amid('{"instruction": "a", "output": "b", "score": NaN}'), problems=("NaN",), mended=21),
    "Infinity": Case(amid('{"instruction": "a", "output": -Infinity}'), problems=("-Infinity",)),
    "a null answer": Case(amid(line(row(output=None))), problems=("column 'output' is null",), lines=(11,)),
    "an empty answer": Case(amid(line(row(output=""))), problems=("column 'output' is blank",), lines=(11,)),
    "a blank answer": Case(amid(line(row(output=" \t "))), problems=("column 'output' is blank",), lines=(11,)),
    "a missing key": Case(amid(line({"instruction": "a"})), problems=("no column 'output'",), lines=(11,)),
    "a number for text": Case(amid(line(row(output=3))), problems=("is a number, not text",), lines=(11,)),
    "a list for text": Case(amid(line(row(output=["a"]))), problems=("is a list, not text",), lines=(11,)),
    "an object for text": Case(amid(line(row(output={}))), problems=("is an object, not text",), lines=(11,)),
    "a bool for text": Case(amid(line(row(output=True))), problems=("is true or false, not text",), lines=(11,)),
    "a dict of records": Case(json.dumps({"a": ROWS[0], "b": ROWS[1]}), 0, ("an object of objects",), name="rows.json"),
    "records wrapped under a key that is not the first": Case(
        json.dumps({"version": 2, "data": ROWS}), 0, ("a list under the key 'data'",), name="rows.json"
    ),
    "a Big5 file": Case(BIG5.encode("big5"), 0, ("is not valid in the file's encoding",) * 20),
    "a Shift-JIS file": Case(SHIFT_JIS.encode("shift_jis"), 0, ("is not valid in the file's encoding",) * 20),
    "a list of lists": Case(json.dumps([[row()], [row()]]), 0, ("the row is a list",) * 2, name="rows.json"),
    "several formats in one file": Case(
        lines([ROWS[0], {"messages": TALK}, PAIR, {"text": "t"}, {"prompt": "p", "answer": "a"}, {"q": "?"}]),
        usable=5, problems=("unknown columns: q",), said="several formats",
    ),
    "very deep nesting": Case(amid("[" * 100_000), problems=("nested too deeply",)),
    "bad dialogue roles": Case(
        lines([{"messages": TALK}, {"messages": [TALK[0], {"role": "bot", "content": "x"}]}, {"messages": TALK[::-1]}]),
        usable=1, problems=("unknown role 'bot'", "turn 1 is by assistant"),
    ),
    "faults of chosen and rejected": Case(
        lines([PAIR, {"instruction": "q", "chosen": "x"}, PAIR | {"rejected": ""}, PAIR | {"chosen": ["x"]}]),
        usable=1, problems=("no column 'rejected'", "'rejected' is blank", "'chosen' is a list"),
    ),
    "a missing comma between objects": Case(json.dumps(ROWS).replace("}, {", "} {")),
    "a row of a table that is too short": Case(csv() + "alone\n", problems=("1 fields, the header 3",), lines=(22,)),
    "a quote in a table that is not closed": Case(
        csv(ROWS[:9]) + '"alone,x,y\n' + csv(ROWS[9:]).split("\n", 1)[1],
        problems=("a quote is not closed",), lines=(11,),
    ),
    "an unknown column": Case(lines([{"instructon": "a", "outptu": "b"}]), usable=0, problems=("unknown columns",)),
}  # fmt: skip
REFUSED = {
    "a saved HTML page": Case("<!DOCTYPE html>\n<html><body>404</body></html>", 0, ("web page",)),
    "a git-LFS pointer": Case("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", 0, ("git-LFS",)),
    "zero bytes": Case("", 0, ("the file is empty (0 bytes)",)),
    "only blank lines": Case(" \n\n \n", 0, ("only blank lines",)),
    "an empty array": Case("[]", 0, ("holds no rows",)),
    "a table without a header": Case("What is it?,a b\nWho is it?,a c\nWhy is it?,a d\n", 0, ("does not name",)),
    "a zip archive": Case(b"PK\x03\x04" + bytes(50), 0, ("zip",)),
    "binary data": Case(bytes(range(256)) * 40, 0, ("binary",)),
}
CASES = LOADS | DROPS | REFUSED


def written(case: Case, folder: Path) -> Path:
    path = folder / case.name
    path.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    return path


def test_no_case_of_the_table_is_missing() -> None:
    assert len(CASES) >= 50


@pytest.mark.parametrize("name", CASES)
def test_a_file_loads_or_is_explained(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = written(case, tmp_path)
    report = check(str(path))
    if case.usable >= 0:
        assert report.usable == case.usable
    assert len(report.problems) == len(case.problems)
    for problem, words in zip(report.problems, case.problems, strict=True):
        assert words in problem.reason
        assert problem.remedy
        assert "\n" not in problem.reason
        assert problem.file.startswith(str(path))
    if name in DROPS:
        assert all(problem.line > 0 for problem in report.problems)
        assert report.rows == report.usable + len(case.problems)
    if case.lines:
        assert tuple(problem.line for problem in report.problems) == case.lines
    assert case.said in "\n".join((*report.warnings, *report.notes))


@pytest.mark.parametrize("name", [*LOADS, *DROPS])
def test_what_is_mended_reads_clean(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = written(case, tmp_path)
    before = path.read_bytes()
    found = fix(path, tmp_path / "out.jsonl")
    usable = check(str(path)).usable
    assert found.written == (usable if case.mended is None else case.mended)
    assert path.read_bytes() == before
    if found.written:
        again = check(found.out)
        assert again.ok
        assert (again.rows, again.encoding) == (found.written, "UTF-8")
    else:
        assert not (tmp_path / "out.jsonl").exists()


def bomb(path: Path) -> None:
    """One GiB of blanks in a gzip file of one megabyte."""
    packer = zlib.compressobj(9, wbits=31)
    begin = packer.compress(lines().encode()) + packer.flush(zlib.Z_FULL_FLUSH)
    blanks = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(begin + blanks * 1024 + packer.flush())


PEAK = """
import json, re, sys
from pathlib import Path
from nacre.data.check import check
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
report = check(sys.argv[1])
print(json.dumps([peak() - before, report.model_dump(mode="json")]))
"""


def check_apart(path: Path) -> tuple[int, CheckReport]:
    """The report made by a process of its own, and by how many KiB its memory rose."""
    out = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    grown, report = json.loads(out.stdout)
    return grown, CheckReport.model_validate(report)


def test_a_gzip_bomb_is_refused_in_constant_memory(tmp_path: Path) -> None:
    bomb(tmp_path / "rows.jsonl.gz")
    assert (tmp_path / "rows.jsonl.gz").stat().st_size < 2 << 20
    grown, report = check_apart(tmp_path / "rows.jsonl.gz")
    assert [problem.line for problem in report.problems] == [0]
    assert "200 times its size" in report.problems[0].reason
    assert "gunzip" in report.problems[0].remedy
    assert grown < 64 << 10


def test_a_link_in_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to(tmp_path / "b.json")
    (tmp_path / "b.json").symlink_to(tmp_path / "a.json")
    with pytest.raises(InputError, match="in a circle"):
        check(str(tmp_path / "a.json"))


def big(path: Path, write: Callable[[Any], None]) -> None:
    with path.open("w", encoding="utf-8") as file:
        write(file)


def million(file: Any) -> None:
    for n in range(60_000):
        file.write(line({"instruction": f"question {n // 2}", "output": f"an answer of some length {n // 2}"}) + "\n")


def never_closed(file: Any) -> None:
    file.write('[{"instruction": "a", "output": "b"}, {"instruction": "')
    for _ in range(600):
        file.write("text without an end " * (1 << 16 >> 4))


def all_bad(file: Any) -> None:
    for n in range(60_000):
        file.write(f'{{"instruction": "question {n}", "output": NaN, "filler": "{"x" * 500}"}}\n')


def one_line(file: Any) -> None:
    file.write('{"instruction": "a", "output": "b"}\n')
    for _ in range(300):
        file.write("no line break " * (1 << 16 >> 3))
    file.write('\n{"instruction": "a", "output": "b"}\n')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "usable", "dropped", "most_mib"),
    [(million, 60_000, 0, 90), (never_closed, 1, 1, 500), (all_bad, 0, 60_000, 120), (one_line, 2, 1, 300)],
)
def test_memory_does_not_grow_with_the_file(tmp_path, write, usable, dropped, most_mib):
    big(tmp_path / "rows.jsonl", write)
    grown, report = check_apart(tmp_path / "rows.jsonl")
    print(write.__name__, grown >> 10, "MiB for", (tmp_path / "rows.jsonl").stat().st_size >> 20, "MiB")
    assert (report.usable, report.dropped) == (usable, dropped)
    assert grown < most_mib << 10

import json

import pytest
from typer.testing import CliRunner

from nacre.base.errors import InputError
from nacre.cli.data import app
from nacre.data import check as check_module
from nacre.data.check import CheckReport, check


def test_a_sound_folder_has_no_problems(write, qa, tmp_path):
    write("inc/train.json", qa(30))
    write("inc/dev.json", json.dumps(qa(5, start=30)))
    report = check(str(tmp_path / "inc"))
    assert report.ok
    assert (report.rows, report.usable, report.dropped, report.train, report.dev) == (35, 35, 0, 30, 5)
    assert (report.format, report.encoding, report.warnings) == ("alpaca 35", "UTF-8", ())
    assert check("inc", dataset_dir=tmp_path).rows == 35
    assert CheckReport.from_json(report.to_json()) == report


def test_every_problem_has_file_line_reason_and_remedy(write, qa, tmp_path):
    path = write("rows.jsonl", [*qa(2), {"instruction": "a", "output": ""}, {"instruction": "a", "output": 3}])
    report = check(str(path))
    assert not report.ok
    assert [(row.file, row.line, row.reason) for row in report.problems] == [
        (str(path), 3, "column 'output' is blank"),
        (str(path), 4, "column 'output' is a number, not text"),
    ]
    assert all(row.remedy for row in report.problems)
    text = "\n".join(report.lines())
    assert "4 rows, 2 usable (2 train, 0 dev), 2 dropped" in text
    assert f"problem: {path}, line 3: column 'output' is blank; fill it in, or delete the row" in text


def test_a_file_that_cannot_be_used_at_all_is_a_problem_beside_the_others(write, qa, tmp_path):
    write("inc/train.json", qa(3))
    dev = write("inc/dev.json", b"")
    report = check("inc", dataset_dir=tmp_path)
    assert report.train == 3
    assert [(row.file, row.line, row.reason) for row in report.problems] == [
        (str(dev), 0, "the file is empty (0 bytes)")
    ]


def test_warnings_name_their_rows(write, qa, tmp_path):
    rows = qa(3)
    rows[1]["output"] = "done<|im_end|>"
    rows[2]["input"] = "long " * 5000
    write("inc/train.json", [*rows, rows[0]])
    write("inc/dev.json", rows[:1])
    warnings = check(str(tmp_path / "inc")).warnings
    assert [warning.split(" (")[-1] for warning in warnings] == [
        "train.json line 4)", "dev.json line 1)", "train.json line 2)", "train.json line 3)",
    ]  # fmt: skip
    assert "repeat" in warnings[0]
    assert "dev rows are also train rows" in warnings[1]
    assert "control tokens" in warnings[2]
    assert "longer than 20,000" in warnings[3]


@pytest.mark.parametrize(("many", "warned"), [(30, False), (31, True)])
def test_class_imbalance_is_warned_above_three_to_one(write, qa, tmp_path, many, warned):
    path = write("rows.json", qa(many, answer="yes") + qa(10, start=100, answer="no"))
    warnings = check(str(path)).warnings
    assert bool(warnings) == warned
    if warned:
        assert "'yes' 31 rows, 'no' 10 rows" in warnings[0]


def test_free_answers_are_no_classes(write, qa, tmp_path):
    path = write("rows.json", qa(30) + qa(20, start=50, answer="the same"))
    assert check(str(path)).warnings == ()


def test_long_lists_of_problems_are_shortened_in_text_but_not_in_json(write, tmp_path):
    path = write("rows.json", [{"text": ""}] * 50)
    report = check(str(path))
    assert len(report.problems) == 50
    assert any("and 30 more problems" in line for line in report.lines())


def test_a_missing_target_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        check(str(tmp_path / "nothing.json"))
    with pytest.raises(InputError, match="unknown dataset"):
        check("nothing", dataset_dir=tmp_path)


def test_very_long_lists_of_problems_are_counted_to_the_end(write, monkeypatch):
    monkeypatch.setattr(check_module, "MOST_PROBLEMS", 30)
    report = check(str(write("rows.json", [{"text": ""}] * 50)))
    assert (report.dropped, len(report.problems), report.more_problems) == (50, 30, 20)
    assert any("and 30 more problems (--json lists the first 30)" in line for line in report.lines())


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)


def test_the_command_prints_the_promised_keys(write, qa, tmp_path):
    path = write("rows.jsonl", [*qa(2), {"instruction": "a"}])
    found = run("check", path, "--json")
    report = json.loads(found.stdout)
    assert report.keys() >= {"format", "encoding", "rows", "usable", "dropped", "warnings", "problems"}
    assert (report["format"], report["encoding"], report["rows"], report["usable"], report["dropped"]) == (
        "alpaca 2", "UTF-8", 3, 2, 1,
    )  # fmt: skip
    (problem,) = report["problems"]
    assert problem.keys() >= {"file", "line", "reason", "remedy"}
    assert (problem["file"], problem["line"], problem["reason"]) == (str(path), 3, "no column 'output'")
    assert found.exit_code == 1
    write("set/inc/train.json", qa(3))
    found = run("check", "--dataset", "inc", "--dataset_dir", tmp_path / "set", "--json")
    assert (found.exit_code, json.loads(found.stdout)["rows"]) == (0, 3)


def test_the_command_mends_a_file(write, qa, tmp_path):
    path = write("rows.jsonl", "{'instruction': 'a', 'output': 'b'}\n" + json.dumps(qa(1)[0]) + "\n")
    out = tmp_path / "mended.jsonl"
    found = run("check", path, "--fix", "--out", out, "--json")
    report = json.loads(found.stdout)
    assert (found.exit_code, report["written"], report["dropped"]) == (0, 2, 0)
    assert run("check", out).exit_code == 0
    assert "text in single quotes" in run("check", path, "--fix", "--out", out).stdout
    write("bad.jsonl", [{"instruction": "a"}])
    found = run("check", tmp_path / "bad.jsonl", "--fix")
    assert (found.exit_code, "bad.fixed.jsonl.dropped.jsonl" in found.stdout) == (1, True)
    write("set/inc/train.json", qa(3))
    write("set/inc/dev.json", qa(3))
    with pytest.raises(InputError, match="these are 2"):
        run("check", tmp_path / "set" / "inc", "--fix")


def test_the_command_cuts_texts(write, tmp_path):
    path = write("wiki.txt", "x" * 1000 + "\n")
    found = run("chunk", path, "--out", tmp_path / "out.jsonl", "--by", "characters", "--json")
    assert (found.exit_code, json.loads(found.stdout)["pieces"]) == (0, 3)
    with pytest.raises(InputError, match="needs a tokenizer"):
        run("chunk", path, "--out", tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="overlap"):
        run("chunk", path, "--out", tmp_path / "out.jsonl", "--by", "characters", "--size", 16, "--overlap", 12)

import json

import pytest

from nacre.base.errors import InputError
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

"""What changed between two sets of rows, whatever they are called by."""

import json

from workspace_kit import Place, assert_clear, write_lines


def test_files_differ_row_by_row(tmp_path) -> None:
    place = Place(tmp_path)
    rows = [{"instruction": f"question {k}", "output": "yes" if k % 2 else "no"} for k in range(12)]
    write_lines(tmp_path / "a.json", [*rows, rows[0]])
    write_lines(
        tmp_path / "b.json",
        [rows[0], *rows[2:5], rows[5] | {"output": "no"}, *rows[6:], {"instruction": "new", "output": "no"}],
    )
    found = place.json("data", "diff", "a.json", "b.json", code=1)["train"]
    assert [row["question"] for row in found["added"]] == ["new"]
    assert sorted(row["question"] for row in found["removed"]) == ["question 0", "question 1"]
    assert found["changed"] == [{"question": "question 5", "before": "yes", "after": "no"}]
    assert found["same"] == 10
    assert found["classes"] == {"no": [7, 8], "yes": [6, 4]}
    assert found["figures"]["rows"] == [13, 12]
    assert found["figures"]["different rows"] == [12, 12]
    assert place.json("data", "diff", "a.json", "a.json")["differs"] is False
    shown = place.nacre("data", "diff", "a.json", "b.json", "--rows", 1)
    assert "1 added, 2 removed, 1 answered otherwise, 10 the same" in shown.out
    assert "- and 1 more" in shown.out
    assert_clear(place.nacre("data", "diff", "a.json", "c.json"), "no dataset 'c.json'")


def test_versions_are_compared_with_datasets_and_each_other(lived_in: Place) -> None:
    assert lived_in.json("data", "diff", "2", "increment_1")["differs"] is False
    path = lived_in.dataset / "increment_1" / "train.json"
    lines = path.read_text().splitlines()
    dev = lived_in.dataset / "increment_1" / "dev.json"
    dev.write_text(dev.read_text() + lines[0] + "\n")
    path.write_text("\n".join([*lines[1:], "not a row"]) + "\n")
    found = lived_in.json("data", "diff", "v2", "increment_1", code=1)
    assert len(found["train"]["removed"]) == len(found["dev"]["added"]) == found["dev"]["moved"] == 1
    assert found["train"]["figures"]["rows that cannot be used"] == [0, 1]
    assert found["train"]["removed"][0]["question"] == json.loads(lines[0])["instruction"]
    assert found["train"]["removed"][0]["line"] == 1
    between = lived_in.json("data", "diff", "1", "2", code=1)
    assert (len(between["train"]["added"]), between["train"]["same"]) == (96, 0)
    assert_clear(lived_in.nacre("data", "diff", "1", "9"), "there is no version 9")


def test_long_texts_are_cut_and_what_was_decided_while_reading_is_said(tmp_path) -> None:
    place = Place(tmp_path)
    write_lines(tmp_path / "a.json", [{"instruction": "q", "output": "a"}])
    long = [{"instruction": "why " * 5000, "output": "long " * 5000}, {"instruction": "q", "output": "a"}]
    (tmp_path / "b.json").write_bytes("".join(f"{json.dumps(row)}\n" for row in long).encode("utf-16"))
    shown = place.nacre("data", "diff", "a.json", "b.json")
    assert len(shown.out) < 3000
    assert "UTF-16" in shown.out + shown.err
    assert any("UTF-16" in note for note in place.json("data", "diff", "a.json", "b.json", code=1)["notes"])
